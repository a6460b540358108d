"""What a test session cost and what it left out, printed when it ends; a tier over its budget fails in CI.

`tests/costs.json` holds, for each tier, its budget in seconds of CPU and the figures of the last time that they were
recorded (`--record-costs`): seconds of wall clock and CPU, and CPU by file. CPU, and not the clock, is what is held
against the budget, because CI's machines are shared. A busy machine needs more CPU for the same work, too: so each
worker times a fixed piece of work, the yardstick, once a minute, and seconds are compared at the yardstick's speed.
"""

from __future__ import annotations

import json
import os
import resource
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from tests.material import session as shared

FILE = Path(__file__).with_suffix(".json")
TIERS = {"quick": "not extended", "extended": "extended", "all": ""}
"""The tests of each tier, by their marks; `extended` is what `all` has beyond `quick`."""
SLOWEST = 10
SAMPLE_EVERY = 60.0


def add_options(parser: pytest.Parser) -> None:
    """Add the options of this module to pytest's."""
    group = parser.getgroup("calig")
    group.addoption("--tier", choices=list(TIERS), default="quick", help="the tests to run (default: quick)")
    group.addoption(
        "--record-costs", action="store_true", help=f"write the seconds of this tier to {FILE.name}"
    )


class Costs:
    """Measures in each worker, gathers where results are collected, and reports there."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.tier: str = config.getoption("tier")
        if not config.option.markexpr:
            config.option.markexpr = TIERS[self.tier]
        self.began = time.monotonic()
        self.cpu: dict[str, float] = defaultdict(float)
        """CPU seconds by test, with its set-up and tear-down."""
        self.wall: dict[str, float] = defaultdict(float)
        self.cpu_of_workers = 0.0
        self.cpu_of_servers = 0.0
        self.yardsticks: list[float] = []
        self.left_out: Counter[str] = Counter()
        self.over = ""
        self._since = _cpu_seconds()
        self._sampled = float("-inf")

    # In each worker

    def pytest_runtest_logstart(self) -> None:
        """Start to count; and measure the machine's speed now and then, between two tests."""
        if not self._collects_from_workers and time.monotonic() - self._sampled > SAMPLE_EVERY:
            self.yardsticks.append(yardstick())
            self._sampled = time.monotonic()
        self._since = _cpu_seconds()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Iterator[None]:
        """Tell the report of each phase what CPU time it took."""
        report = yield
        now = _cpu_seconds()
        report.cpu = now - self._since  # type: ignore[attr-defined]
        self._since = now
        return report  # type: ignore[return-value]

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        """Count the tests of other tiers by what their marks say."""
        for item in items:
            if mark := item.get_closest_marker("extended"):
                self.left_out[f"make test-all: {mark.args[0]}"] += 1

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Count files that are skipped as a whole."""
        if report.skipped:
            self.left_out[f"{_reason(report)} ({report.nodeid})"] += 1

    # Where results are collected

    @property
    def _collects_from_workers(self) -> bool:
        return bool(self.config.getoption("numprocesses", None))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take over what a worker has measured."""
        found = getattr(node, "workeroutput", {}).get("costs")
        if found:
            self.cpu_of_workers += found["cpu"]
            self.yardsticks += found["yardsticks"]
            self.left_out |= Counter(found["left_out"])  # each worker leaves out the same

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add up a test's phases."""
        self.cpu[report.nodeid] += getattr(report, "cpu", 0.0)
        self.wall[report.nodeid] += report.duration

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Hand over what a worker has measured; or stop the session's servers and hold the tier to its budget."""
        if hasattr(self.config, "workeroutput"):
            measured = {"cpu": _cpu_seconds(), "yardsticks": self.yardsticks, "left_out": dict(self.left_out)}
            self.config.workeroutput["costs"] = measured
            return
        self.cpu_of_servers = shared.end()
        if self.config.option.collectonly or not self._is_whole:
            return
        figures = self._figures()
        known = json.loads(FILE.read_text()).get(self.tier, {})
        if self.config.getoption("record_costs"):
            _record(self.tier, figures)
        elif "yardstick" in known:
            self.over = _over_budget(figures, known)
            if self.over and os.environ.get("CI") and session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @property
    def _is_whole(self) -> bool:
        """Whether this is a whole tier, and not some files of it."""
        return self.config.args_source is pytest.Config.ArgsSource.TESTPATHS and (
            self.config.option.markexpr == TIERS[self.tier] and not self.config.option.keyword
        )

    def _figures(self) -> dict[str, Any]:
        by_file: Counter[str] = Counter()
        for test, seconds in self.cpu.items():
            by_file[test.partition("::")[0]] += seconds  # type: ignore[assignment]
        own = time.process_time() if self._collects_from_workers else _cpu_seconds()  # they are children, too
        return {
            "date": date.today().isoformat(),
            "tests": len(self.cpu),
            "wall": round(time.monotonic() - self.began, 1),
            "cpu": round(self.cpu_of_workers + self.cpu_of_servers + own, 1),
            "yardstick": round(median(self.yardsticks), 4) if self.yardsticks else None,
            "files": {name: round(seconds, 1) for name, seconds in sorted(by_file.items()) if seconds > 0.5},
        }

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print what the session cost, its slowest tests, and what it left out and why."""
        write, figures = terminalreporter.write_line, self._figures()
        for report in terminalreporter.stats.get("skipped", []):
            self.left_out[_reason(report)] += 1
        if self.left_out:
            terminalreporter.section("left out, and why")
            for reason, count in sorted(self.left_out.items()):
                write(f"{count:6}  {reason}")
        terminalreporter.section("seconds")
        write(
            f"{self.tier}: {figures['tests']} tests, {figures['wall']:.0f} s of wall clock, "
            f"{figures['cpu']:.0f} s of CPU"
        )
        known = json.loads(FILE.read_text()).get(self.tier, {})
        if "yardstick" in known and self._is_whole and figures["yardstick"]:
            slower = figures["yardstick"] / known["yardstick"]
            write(
                f"recorded on {known['date']}: {known['tests']} tests, {known['wall']:.0f} s of wall clock, "
                f"{known['cpu']:.0f} s of CPU; this machine now needs {slower:.2f} times the CPU for the same work; "
                f"budget: {known['budget']} s of CPU at the speed of then"
            )
        for test in sorted(self.cpu, key=self.cpu.__getitem__, reverse=True)[:SLOWEST]:
            write(f"{self.wall[test]:7.1f} s  {self.cpu[test]:7.1f} s of CPU  {test}")
        if self.over:
            terminalreporter.section("over budget", red=True)
            write(self.over)


def yardstick() -> float:
    """Seconds of CPU that a fixed piece of work takes: some Python, some memory, some arithmetic."""
    import numpy as np

    before = time.process_time()
    table = {index: str(index) for index in range(200_000)}
    sorted(table.values())
    matrix = np.arange(90_000, dtype=np.float64).reshape(300, 300) / 90_000
    for _ in range(12):
        matrix = np.tanh(matrix @ matrix)
    return time.process_time() - before


def _cpu_seconds() -> float:
    """CPU time of this process and of all children that it has waited for."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _reason(report: Any) -> str:
    """Why a test was skipped, without the place."""
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return reason.removeprefix("Skipped: ")


def _over_budget(figures: dict[str, Any], known: dict[str, Any]) -> str:
    """What to say of a tier that takes more CPU than its budget; nothing where it does not."""
    slower = figures["yardstick"] / known["yardstick"] if figures["yardstick"] else 1.0
    slower = max(slower, 1.0)  # on a faster machine the budget is no smaller
    seconds = figures["cpu"] / slower
    if seconds <= known["budget"]:
        return ""
    grown = {name: cpu / slower - known["files"].get(name, 0.0) for name, cpu in figures["files"].items()}
    most = sorted(grown, key=grown.__getitem__, reverse=True)[:SLOWEST]
    lines = [f"{grown[name]:+8.1f} s of CPU  {name}" for name in most if grown[name] > 0.5]
    head = f"{seconds:.0f} s of CPU at the recorded speed, and the budget is {known['budget']} s. What grew:"
    return "\n".join([head, *lines])


def _record(tier: str, figures: dict[str, Any]) -> None:
    """Write a tier's figures into the file, beside its budget."""
    content = json.loads(FILE.read_text())
    content[tier] = {"budget": content.get(tier, {}).get("budget"), **figures}
    FILE.write_text(json.dumps(content, indent=1) + "\n")
