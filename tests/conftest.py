"""Fixtures for all tests: the tiny model and corpus, and a Prefect of the tests' own."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.material import object_store as stores
from tests.material.browser import browser as browser
from tests.material.tiny import Audited, Row, audit_config, make_rows, save_model, write_parquet

os.environ.setdefault("TQDM_DISABLE", "1")  # read when tqdm is imported; the command line sets it for itself


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny classifier; not to be changed."""
    return save_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def tiny_rows() -> list[Row]:
    """24 rows; not to be changed."""
    return make_rows(24)


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory, tiny_rows: list[Row]) -> Path:
    """A Parquet file of `tiny_rows`; not to be changed."""
    return write_parquet(tmp_path_factory.mktemp("corpus") / "reviews.parquet", tiny_rows)


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One Prefect server, home and result storage for all tests that run flows; gives the API's URL."""
    importlib.import_module("tasks")  # sets Prefect's environment before its first import
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        PREFECT_HOME,
        PREFECT_LOCAL_STORAGE_PATH,
        PREFECT_LOGGING_TO_API_ENABLED,
        temporary_settings,
    )
    from prefect.testing.utilities import prefect_test_harness

    home = tmp_path_factory.mktemp("prefect")
    settings = {
        PREFECT_HOME: home,
        PREFECT_LOCAL_STORAGE_PATH: home / "storage",
        PREFECT_LOGGING_TO_API_ENABLED: False,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,  # its thread holds up the end of a flow
    }
    with temporary_settings(settings), prefect_test_harness(server_startup_timeout=120):
        yield str(PREFECT_API_URL.value())


@pytest.fixture(scope="session")
def audited(
    prefect_server: str, tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_corpus: Path
) -> Audited:
    """A warehouse with one audit of `tiny_corpus`; not to be changed, copy it for that."""
    from flows.audit import audit

    warehouse = tmp_path_factory.mktemp("audited") / "warehouse"
    result = audit(audit_config(tiny_model, tiny_corpus, warehouse))
    return Audited(warehouse, result.run_id, result.report)


@pytest.fixture(scope="session")
def store_server() -> Iterator[stores.Store]:
    """One S3 server for all tests that need one."""
    with stores.serve() as server:
        yield server


@pytest.fixture
def store(store_server: stores.Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[stores.Store]:
    """The S3 server with an empty bucket, `audits`."""
    with stores.bucket(store_server, "audits", monkeypatch) as server:
        yield server
