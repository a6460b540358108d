"""Fixtures for all tests, each made once for all workers of a session: the tiny model and corpus, and the servers."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import costs
from tests.material import object_store, session
from tests.material.browser import browser as browser
from tests.material.services import start_prefect
from tests.material.tiny import Audited, Row, audit_config, make_rows, save_model, write_parquet

os.environ.setdefault("TQDM_DISABLE", "1")  # read when tqdm is imported; the command line sets it for itself


def pytest_addoption(parser: pytest.Parser) -> None:
    costs.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        session.begin()
    config.pluginmanager.register(costs.Costs(config), "calig-costs")


@pytest.fixture(scope="session")
def tiny_model() -> Path:
    """A folder with the tiny classifier; not to be changed."""
    return Path(session.once("tiny-model", lambda folder: str(save_model(folder / "tiny"))))


@pytest.fixture(scope="session")
def tiny_rows() -> list[Row]:
    """24 rows; not to be changed."""
    return make_rows(24)


@pytest.fixture(scope="session")
def tiny_corpus(tiny_rows: list[Row]) -> Path:
    """A Parquet file of `tiny_rows`; not to be changed."""
    return Path(
        session.once("tiny-corpus", lambda folder: str(write_parquet(folder / "reviews.parquet", tiny_rows)))
    )


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The session's Prefect server, in a home and result storage of this worker; gives the API's URL."""
    url = session.once("prefect", start_prefect)
    importlib.import_module("tasks")  # sets Prefect's environment before its first import
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        PREFECT_HOME,
        PREFECT_LOCAL_STORAGE_PATH,
        PREFECT_LOGGING_TO_API_ENABLED,
        temporary_settings,
    )

    home = tmp_path_factory.mktemp("prefect")
    settings = {
        PREFECT_API_URL: url,
        PREFECT_HOME: home,
        PREFECT_LOCAL_STORAGE_PATH: home / "storage",
        PREFECT_LOGGING_TO_API_ENABLED: False,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,  # its thread holds up the end of a flow
    }
    with temporary_settings(settings):
        yield url


@pytest.fixture(scope="session")
def audited(prefect_server: str, tiny_model: Path, tiny_corpus: Path) -> Audited:
    """A warehouse with one audit of `tiny_corpus`; not to be changed, copy it for that."""

    def make(folder: Path) -> list[str]:
        from flows.audit import audit

        result = audit(audit_config(tiny_model, tiny_corpus, folder / "warehouse"))
        return [str(folder / "warehouse"), result.run_id, str(result.report)]

    warehouse, run_id, report = session.once("audited", make)
    return Audited(Path(warehouse), run_id, Path(report))


@pytest.fixture(scope="session")
def store_server() -> Iterator[object_store.Store]:
    """An S3 server in this process, which tests tell to fail."""
    with object_store.serve() as server:
        yield server


@pytest.fixture
def store(store_server: object_store.Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[object_store.Store]:
    """The S3 server with an empty bucket, `audits`."""
    with object_store.bucket(store_server, "audits", monkeypatch) as server:
        yield server
