"""Fixtures for all tests: the tiny model and corpus, and a Prefect of the tests' own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.material import Row, make_rows, save_model, write_parquet


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
    import tasks  # noqa: F401 - sets Prefect's environment before its first import
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_HOME,
        PREFECT_LOCAL_STORAGE_PATH,
        temporary_settings,
    )
    from prefect.testing.utilities import prefect_test_harness

    home = tmp_path_factory.mktemp("prefect")
    settings = {PREFECT_HOME: home, PREFECT_LOCAL_STORAGE_PATH: home / "storage"}
    with temporary_settings(settings), prefect_test_harness(server_startup_timeout=120):
        yield str(PREFECT_API_URL.value())
