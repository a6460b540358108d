"""Draw mutants by seed, over all packages; the same seed and source give the same draw on every machine."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from tests.benchmarks.mutation.operators import Mutant, mutants

PACKAGES = ("calig", "tasks", "flows")


def candidates(root: Path) -> list[Mutant]:
    """All changes of all modules."""
    files = sorted(
        path.relative_to(root).as_posix() for name in PACKAGES for path in (root / name).rglob("*.py")
    )
    return [mutant for file in files for mutant in mutants((root / file).read_text("utf-8"), file)]


def belongs(package: str, asked: str) -> bool:
    """Whether `package` is the asked one or lies in it."""
    return package == asked or package.startswith(asked + ".")


def draw(root: Path, found: Sequence[Mutant], count: int, seed: int) -> list[Mutant]:
    """`count` mutants of different lines; each package has its share by lines that can be changed, at least one.

    Each package has a generator of its own, and the more that are drawn from it, the more follow those drawn before.
    Of a line, first an operator is drawn and then one of its changes: else a line with many numbers would hide all
    other operators.
    """
    by_package: dict[str, list[Mutant]] = {}
    for mutant in found:
        by_package.setdefault(mutant.package, []).append(mutant)
    lines = {name: len({(m.file, m.line) for m in members}) for name, members in by_package.items()}
    drawn = []
    for name, share in shares(lines, count).items():
        generator = random.Random(f"{seed} {name}")
        ordered = sorted(by_package[name], key=lambda m: (m.file, m.line, m.id))
        places = [list(members) for _, members in groupby(ordered, key=lambda m: (m.file, m.line))]
        generator.shuffle(places)
        chosen = (_one(root, place, generator) for place in places)
        drawn += _first((mutant for mutant in chosen if mutant), share)
    return drawn


def shares(lines: dict[str, int], count: int) -> dict[str, int]:
    """How many mutants each package gets, by its lines: the largest remainders round up, and all get at least one."""
    if not lines:
        return {}
    count = max(count, len(lines))
    exact = {name: count * number / sum(lines.values()) for name, number in lines.items()}
    given = {name: max(1, int(share)) for name, share in exact.items()}
    while (missing := count - sum(given.values())) != 0:
        step = 1 if missing > 0 else -1
        open_to = [name for name in given if step > 0 or given[name] > 1]
        chosen = max(sorted(open_to), key=lambda name: step * (exact[name] - given[name]))
        given[chosen] += step
    return dict(sorted(given.items()))


def _one(root: Path, place: Sequence[Mutant], generator: random.Random) -> Mutant | None:
    """One change of a line that compiles and is a change."""
    source = (root / place[0].file).read_text("utf-8")
    operators = sorted({mutant.operator for mutant in place})
    generator.shuffle(operators)
    for operator in operators:
        members = [mutant for mutant in place if mutant.operator == operator]
        generator.shuffle(members)
        for mutant in members:
            if mutant.changes(source):
                return mutant
    return None


def _first(drawn: Iterable[Mutant], count: int) -> list[Mutant]:
    """The first few, without asking for one more."""
    return [mutant for mutant, _ in zip(drawn, range(count), strict=False)] if count else []
