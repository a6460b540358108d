"""A plugin of pytest that gives each line run under coverage to the test, or the shared fixture, that ran it.

Coverage has been started in every Python process, by its environment variable COVERAGE_PROCESS_START. In this process
the context is switched; a process that a test starts reads it from the variable below, which its configuration names.
A fixture that several tests share has a context of its own: the first of these tests sets it up, and all depend on it.

Each test appends a line to a file: its id, its outcome, the seconds it took without shared fixtures, and the shared
fixtures that it uses; each set-up of a shared fixture appends its seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import coverage
import pytest

CONTEXT = "CALIG_MUTANTS_CONTEXT"
RECORD = "CALIG_MUTANTS_RECORD"

GRACE = 2.0

_item: dict[str, Any] = {}
_kill = subprocess.Popen.kill


def _end(process: subprocess.Popen[Any]) -> None:
    """End a process as `kill` does, but let it write what it measured: workers of a pool are ended by `kill` only."""
    process.terminate()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        _kill(process)


def pytest_configure() -> None:
    subprocess.Popen.kill = _end  # type: ignore[assignment, method-assign]


def _switch(context: str) -> str:
    """Change the context, here and for processes to come; give the former one."""
    former = os.environ.get(CONTEXT, "")
    os.environ[CONTEXT] = context
    measured = coverage.Coverage.current()
    if measured is not None:
        measured.switch_context(context)
    return former


def _write(entry: dict[str, Any]) -> None:
    with (Path(os.environ[RECORD]) / f"tests-{os.getpid()}.jsonl").open("a") as file:
        file.write(json.dumps(entry) + "\n")


def _key(definition: pytest.FixtureDef[Any], item: pytest.Item) -> str:
    """A shared fixture, and the part of the tests that shares it."""
    kinds: dict[str, type[Any]] = {
        "class": pytest.Class,
        "module": pytest.Module,
        "package": pytest.Directory,
    }
    kind = kinds.get(definition.scope)
    part = item.getparent(kind) if kind else None
    return f"fixture {definition.baseid}::{definition.argname} of {part.nodeid if part else ''}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    _item.update(id=item.nodeid, fixtures=[], outcome="passed", shared=0.0)
    former, start = _switch(item.nodeid), time.perf_counter()
    result = yield
    _switch(former)
    own = time.perf_counter() - start - _item["shared"]
    _write({key: _item[key] for key in ("id", "fixtures", "outcome")} | {"seconds": round(own, 3)})
    return result


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    if fixturedef.scope == "function":
        return (yield)
    key = _key(fixturedef, request._pyfuncitem)
    former, start, before = _switch(key), time.perf_counter(), _item["shared"]
    try:
        return (yield)
    finally:
        _switch(former)
        nested = _item["shared"] - before  # of fixtures that this one asked for by name
        seconds = time.perf_counter() - start - nested
        _item["shared"] += seconds
        _write({"fixture": key, "scope": fixturedef.scope, "seconds": round(seconds, 3)})


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    used = getattr(getattr(item, "_request", None), "_fixture_defs", {})
    shared = (definition for definition in used.values() if definition.scope != "function")
    _item["fixtures"] = sorted(_key(definition, item) for definition in shared)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.outcome != "passed" and _item["outcome"] != "failed":
        _item["outcome"] = report.outcome
    return report
