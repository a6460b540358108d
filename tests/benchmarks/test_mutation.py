"""The mutation benchmark: its changes, its draw, its order of tests, its tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.benchmarks.mutation.cover import Record, Timed
from tests.benchmarks.mutation.draw import draw, shares
from tests.benchmarks.mutation.operators import Mutant, mutants
from tests.benchmarks.mutation.results import meanings, section, write_section
from tests.benchmarks.mutation.run import Verdict

LEFT_ALONE = '''
"""Text with 1 < 2."""
from __future__ import annotations
from typing import TYPE_CHECKING, Literal
if TYPE_CHECKING:
    import os
    A = 1 + 2
__all__ = ["f"] + [1]
Kind = Literal[1, 2]
@dataclass(frozen=True)
class C:
    """3 > 2."""
    x: Annotated[int, 3]
def f(a: Literal[1], b: Annotated[str, 2] = "x") -> Literal[3]:
    """Text."""
    log.info("%d", 3 + 4)
    assert a, "1" + str(2)
    raise ValueError(f"{a + 1}", 4)
if __name__ == "__main__":
    f(1, 2)
'''


def changed(source: str, operator: str) -> set[str]:
    found = mutants(source, "calig/a.py")
    return {mutant.applied(source) for mutant in found if mutant.operator == operator}


@pytest.mark.parametrize(
    ("operator", "before", "after"),
    [
        ("comparison turned", "x = a < b", {"x = a <= b"}),
        ("comparison turned", "x = a >= b > c", {"x = a > b > c", "x = a >= b >= c"}),
        ("comparison turned", "x = (a) == (b)", {"x = (a) != (b)"}),
        ("comparison turned", "x = a not in b", {"x = a in b"}),
        ("comparison turned", "x = a is b", {"x = a is not b"}),
        ("comparison turned", "x = 'é' in b", {"x = 'é' not in b"}),
        ("comparison turned", "x = (\n    a\n    == b\n)", {"x = (\n    a\n    != b\n)"}),
        ("constant moved", "x = 2_000", {"x = 2001"}),
        ("constant moved", "x = 0.5", {"x = 0.25"}),
        ("constant moved", "x = True", {"x = False"}),
        ("constant moved", "zip(a, b, strict=True)", set()),
        ("branch dropped", "if a: x = 1", {"if False: x = 1", "if not (a): x = 1"}),
        ("branch dropped", "x = (a or b) and c", {"x = (a or b)", "x = c", "x = (a) and c", "x = (b) and c"}),
        ("branch dropped", "x = a if b else c", {"x = a if not (b) else c"}),
        ("branch dropped", "x = [a for a in b if a]", {"x = [a for a in b if True]"}),
        ("branch dropped", "f(x)", {"pass"}),
        ("branch dropped", "x += 1", {"pass"}),
        ("branch dropped", "a.x = b", {"pass"}),
        ("argument swapped", "f(a, b)", {"f(b, a)"}),
        ("argument swapped", "isinstance(a, b)", set()),
        ("sign flipped", "x = a + b", {"x = a - b"}),
        ("sign flipped", "x = a + 'b'", set()),
        ("sign flipped", "x = (a * b) / c", {"x = (a / b) / c", "x = (a * b) * c"}),
        ("sign flipped", "x = folder / name", set()),
        ("sign flipped", "x = -a", {"x = +a"}),
        ("sign flipped", "x -= a", {"x += a"}),
        ("sign flipped", "x = min(a, b)", {"x = max(a, b)"}),
    ],
)
def test_each_operator_changes_one_line(operator: str, before: str, after: set[str]) -> None:
    assert changed(before, operator) == after


def test_what_says_nothing_about_behaviour_is_left_alone() -> None:
    assert mutants(LEFT_ALONE, "calig/a.py") == []


def test_every_mutant_of_a_module_compiles_and_differs_in_one_line() -> None:
    path = Path(__file__).parents[2] / "calig" / "bootstrap.py"
    source = path.read_text("utf-8")
    found = mutants(source, "calig/bootstrap.py")
    assert len({mutant.id for mutant in found}) == len(found) > 50
    lines = source.split("\n")
    for mutant in found:
        compile(mutant.applied(source), mutant.file, "exec", dont_inherit=True)
        differing = [
            i for i, line in enumerate(mutant.applied(source).split("\n"), 1) if line != lines[i - 1]
        ]
        assert differing == [mutant.line]


def test_places_of_lines() -> None:
    source = (
        "A = 1\ndef f(a=2,\n      b=3):\n    if (a\n        > 4):\n        return 5\n    return lambda: 6\n"
    )
    found = {m.line: (m.statement, m.body, m.at_import) for m in mutants(source, "calig/a.py")}
    assert found == {
        1: ((1, 1), None, True),
        2: ((2, 3), (4, 7), True),
        3: ((2, 3), (4, 7), True),
        5: ((4, 5), None, False),
        6: ((6, 6), None, False),
        7: ((7, 7), None, False),
    }


def test_ids_survive_a_shift_of_lines() -> None:
    source = "x = 1\ny = [1, 1]\n"
    ids = [mutant.id for mutant in mutants(source, "calig/a.py")]
    assert ids == [mutant.id for mutant in mutants("\n" + source, "calig/a.py")]
    assert len(set(ids)) == 3


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, lines in (("calig/a.py", 3), ("calig/b/c.py", 30), ("tasks/d.py", 3)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("".join(f"x{i} = {i} + {i}\n" for i in range(lines)))
    return tmp_path


def found_in(project: Path) -> list[Mutant]:
    names = ("calig/a.py", "calig/b/c.py", "tasks/d.py")
    return [mutant for name in names for mutant in mutants((project / name).read_text(), name)]


def test_the_same_seed_draws_the_same_in_whatever_order_files_come(project: Path) -> None:
    found = found_in(project)
    drawn = draw(project, found, 12, 1)
    assert drawn == draw(project, found[::-1], 12, 1)
    assert drawn != draw(project, found, 12, 2)
    assert [mutant.package for mutant in drawn] == ["calig"] + ["calig.b"] * 10 + ["tasks"]
    assert len({(mutant.file, mutant.line) for mutant in drawn}) == 12
    assert set(drawn) < set(draw(project, found, 24, 1))


def test_each_package_has_its_share_and_at_least_one() -> None:
    assert shares({"a": 1000, "b": 1, "c": 1}, 10) == {"a": 8, "b": 1, "c": 1}
    assert shares({"a": 5, "b": 3}, 4) == {"a": 3, "b": 1}
    assert shares({"a": 5, "b": 3}, 1) == {"a": 1, "b": 1}
    assert shares({}, 3) == {}


def a_record(root: Path) -> Record:
    tests = [
        Timed("t/a.py::slow", "first", 5.0, frozenset()),
        Timed("t/a.py::fixture", "first", 0.1, frozenset({"f"})),
        Timed("t/b.py::fixture", "first", 0.2, frozenset({"f"})),
        Timed("t/b.py::other", "second", 0.3, frozenset()),
    ]
    lines = {"calig/a.py": {1: {""}, 3: {"f"}, 4: {"t/b.py::other"}}, "calig/b.py": {4: {"t/a.py::slow"}}}
    return Record(root, {test.id: test for test in tests}, fixtures={"f": 1.0}, lines=lines)


def test_the_fastest_test_is_first_and_pays_for_its_fixtures(tmp_path: Path) -> None:
    record = a_record(tmp_path)
    assert record.ordered(record.tests) == [
        *("t/b.py::other", "t/a.py::fixture", "t/b.py::fixture", "t/a.py::slow"),
    ]
    assert record.patience("t/a.py::fixture") == pytest.approx(41)


def test_tests_that_run_a_line_by_a_fixture_or_import_its_module_count(tmp_path: Path) -> None:
    sources = {
        "a": "A = 1\ndef f(x=2):\n    y = 3\n    z = 4\n    return 5\n",
        "b": "from calig.a import A\n\ndef g():\n    return A\n",
    }
    (tmp_path / "calig").mkdir()
    for name, source in sources.items():
        (tmp_path / "calig" / f"{name}.py").write_text(source)
    record = a_record(tmp_path)
    by_fixture = {"t/a.py::fixture", "t/b.py::fixture"}
    own = by_fixture | {"t/b.py::other"}
    found = {mutant.line: record.covering(mutant) for mutant in mutants(sources["a"], "calig/a.py")}
    assert found == {
        1: [own, {"t/a.py::slow"}],  # a constant: tests of its module, then of those that import it
        2: [own],  # a signature: tests of the function
        3: [by_fixture],
        4: [{"t/b.py::other"}],
        5: [],
    }


def test_what_was_written_by_hand_is_kept(tmp_path: Path) -> None:
    drawn = mutants("x = a | b < 1\n", "calig/a.py")[:2]
    verdicts = {
        drawn[0].id: Verdict("survived", covering=(2, 1), ran=3),
        drawn[1].id: Verdict("first", "failed"),
    }
    path = tmp_path / "mutants.md"
    write_section(path, "Seed 1", section("Seed 1", ["Facts."], drawn, verdicts, {}))
    write_section(path, "Seed 2", section("Seed 2", ["Facts."], drawn[1:], verdicts, {}))
    assert meanings(path) == {}
    before = path.read_text()
    assert "killed by the first tier 1 (50%)" in before
    assert r"`x = a \| b < 1` → `x = a \| b <= 1` | 2 + 1 |  |" in before
    path.write_text(before.replace("| 2 + 1 |  |", "| 2 + 1 | the same for all a |"))
    means = meanings(path)
    assert means == {drawn[0].id: "the same for all a"}
    write_section(path, "Seed 1", section("Seed 1", ["Facts."], drawn, verdicts, means))
    assert path.read_text() == before.replace("| 2 + 1 |  |", "| 2 + 1 | the same for all a |")
    moved = [replace(mutant, line=2) for mutant in drawn]
    write_section(path, "Seed 1", section("Seed 1", ["Facts."], moved, verdicts, means))
    assert meanings(path) == means
