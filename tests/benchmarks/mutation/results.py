"""Write what became of the mutants: a state to go on from, and a section of the results for each seed."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from tests.benchmarks.mutation.operators import OPERATORS, Mutant
from tests.benchmarks.mutation.run import Verdict

COLUMNS = {
    "first": "killed by the first tier",
    "second": "only by the second",
    "survived": "survived",
    "uncovered": "uncovered",
}
TITLE = "# Mutants: how many single-line changes the tests notice"
SURVIVORS = "| id | file:line | before → after | tests | means |"
ROW = re.compile(r"^\| `(?P<id>[0-9a-f]{8})` \|.* \| (?P<means>.*?) ?\|$")


@dataclass
class State:
    """A draw, and the verdicts so far. They hold for these sources, tiers and seconds only."""

    key: str
    verdicts: dict[str, Verdict] = field(default_factory=dict)

    def write(self, path: Path, mutants: Iterable[Mutant]) -> None:
        """Write it whole, so that no end of this process leaves half of it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        known = [
            asdict(mutant)
            | {"verdict": asdict(self.verdicts[mutant.id]) if mutant.id in self.verdicts else None}
            for mutant in mutants
        ]
        part = path.with_suffix(".part")
        part.write_text(json.dumps({"key": self.key, "mutants": known}, indent=1, ensure_ascii=False))
        part.replace(path)

    @classmethod
    def read(cls, path: Path, key: str) -> State:
        """What is known under this key; nothing under another one."""
        state = cls(key)
        content: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
        if content.get("key") == key:
            names = {known.name for known in fields(Verdict)}
            for mutant in content["mutants"]:
                if mutant["verdict"]:
                    kept = {name: value for name, value in mutant["verdict"].items() if name in names}
                    state.verdicts[mutant["id"]] = Verdict(**kept | {"covering": tuple(kept["covering"])})
        return state


def survivors_of(path: Path) -> list[str]:
    """The ids of mutants that a state says no test killed."""
    mutants = json.loads(path.read_text())["mutants"]
    alive = ("survived", "uncovered")
    return [mutant["id"] for mutant in mutants if mutant["verdict"] and mutant["verdict"]["result"] in alive]


def section(
    heading: str,
    facts: Sequence[str],
    mutants: Sequence[Mutant],
    verdicts: Mapping[str, Verdict],
    means: Mapping[str, str],
) -> str:
    """The results of one draw, as Markdown."""
    judged = [mutant for mutant in mutants if mutant.id in verdicts]
    results = Counter(verdicts[mutant.id].result for mutant in judged)
    ways = Counter(verdicts[mutant.id].how for mutant in judged)
    shares = [
        f"{COLUMNS[name]} {results[name]} ({results[name] / max(1, len(judged)):.0%})" for name in COLUMNS
    ]
    notes = [
        f"{ways[way]} {text}"
        for way, text in (
            ("import", "killed as they could not be imported"),
            ("hang", "by a hang"),
            ("crash", "by the end of the process"),
            ("limit", "survived as the time was over, before all covering tests had run"),
        )
        if ways[way]
    ]
    lines = [f"## {heading}", "", *facts, ""]
    lines += [
        f"**Of {len(judged)} mutants: {', '.join(shares)}.**" + (f" {'; '.join(notes)}." if notes else "")
    ]
    if len(judged) < len(mutants):
        lines += ["", f"{len(mutants) - len(judged)} of {len(mutants)} drawn mutants have not been run yet."]
    by_package = _counts(
        "package", sorted({m.package for m in judged}), judged, verdicts, lambda m: m.package
    )
    by_operator = _counts("operator", OPERATORS, judged, verdicts, lambda m: m.operator)
    lines += ["", *by_package, "", *by_operator, ""]
    lines += [SURVIVORS, "| --- | --- | --- | --- | --- |"]
    for mutant in judged:
        verdict = verdicts[mutant.id]
        if verdict.result in ("survived", "uncovered"):
            tests = "uncovered"
            if verdict.result == "survived":
                tests = " + ".join(map(str, verdict.covering))
                tests += f", {verdict.ran} of them run" if verdict.ran < sum(verdict.covering) else ""
            change = f"{_code(mutant.before)} → {_code(mutant.after)}"
            place = f"{mutant.file}:{mutant.line}"
            lines.append(f"| `{mutant.id}` | {place} | {change} | {tests} | {means.get(mutant.id, '')} |")
    lines += ["", "Tests: those of the first + of the second tier that run the line.", ""]
    return "\n".join(lines)


def write_section(path: Path, heading: str, text: str) -> None:
    """Put a section in place of the one with its heading, or behind all others."""
    before = path.read_text("utf-8") if path.is_file() else f"{TITLE}\n"
    first, *sections = re.split(r"^(?=## )", before, flags=re.MULTILINE)
    named = {part.splitlines()[0]: part.rstrip() + "\n" for part in sections}
    named[f"## {heading}"] = text.rstrip() + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([first.rstrip() + "\n", *named.values()]), "utf-8")


def meanings(path: Path) -> dict[str, str]:
    """What was written by hand of survivors, by their ids."""
    rows = map(ROW.match, path.read_text("utf-8").splitlines()) if path.is_file() else ()
    return {row["id"]: row["means"].strip() for row in rows if row and row["means"].strip()}


def _counts(
    title: str,
    names: Sequence[str],
    judged: Sequence[Mutant],
    verdicts: Mapping[str, Verdict],
    name_of: Callable[[Mutant], str],
) -> list[str]:
    """A table of counts by some name."""
    lines = [f"| {title} | mutants | {' | '.join(COLUMNS.values())} |", "| --- " * (2 + len(COLUMNS)) + "|"]
    for name in names:
        found = Counter(verdicts[mutant.id].result for mutant in judged if name_of(mutant) == name)
        cells = [str(found[result]) for result in COLUMNS]
        lines.append(f"| {name} | {found.total()} | {' | '.join(cells)} |")
    return lines


def _code(text: str) -> str:
    """Code in a cell of a table."""
    fence = "``" if "`" in text else "`"
    return f"{fence}{text}{fence}".replace("|", "\\|")
