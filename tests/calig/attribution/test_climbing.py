"""Documents climb to the tolerance by themselves, and the error they state is measured on every panel."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from calig.attribution.climbing import Climbed, Samples, climb, judge
from calig.attribution.quadrature import Float64, Mesh, Rule, rule, spline_panels

Path = Callable[[float], tuple[Float64, float]]
"""α to g(α) (T,) and f(α), with Σ_t g_t = f′."""


def bumps(*centres: float, width: float = 0.05, heights: tuple[float, ...] = (1.0, -0.4, 0.7)) -> Path:
    """Three tokens whose contributions rise and fall together where f climbs its steps, on a gentle slope."""
    shares = np.array(heights)

    def path(a: float) -> tuple[Float64, float]:
        steep = sum(math.exp(-(((a - c) / width) ** 2)) for c in centres)
        risen = sum(width * math.sqrt(math.pi) / 2 * math.erf((a - c) / width) for c in centres)
        values = shares * steep + np.array([0.2, 0.1, 0.3]) * a
        return values, float(shares.sum() * risen + 0.6 * a**2 / 2)

    return path


def integral(path: Path) -> Float64:
    """By 200,000 midpoints."""
    total = np.zeros(3)
    for a in (np.arange(20_000) + 0.5) / 20_000:
        total += path(float(a))[0]
    return total / 20_000


class Run:
    """A climb of several paths; counts what it evaluates."""

    def __init__(self, *paths: Path) -> None:
        self.paths = paths
        self.rounds: list[list[tuple[int, float]]] = []
        self.samples = [Samples(path(0.0), path(1.0)) for path in paths]

    def evaluate(self, rows: list[tuple[int, float]]) -> tuple[list[Float64], Float64, list[Float64]]:
        self.rounds.append(rows)
        found = [self.paths[i](a) for i, a in rows]
        nothing = [np.empty(0)] * len(rows)
        return [values for values, _ in found], np.array([output for _, output in found]), nothing

    def climb(
        self, kind: Rule, tolerance: float, start: int = 12, factor: float = 1.5, fixed: bool = False
    ) -> list[Climbed]:
        return climb(kind, start, factor, self.samples, self.evaluate, tolerance, fixed)


def relative(found: Float64, expected: Float64) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def test_the_estimate_is_what_the_definition_says() -> None:
    """Once more in plain Python."""
    path, nodes = bumps(0.4), np.linspace(0, 1, 9)
    run = Run(path)
    (climbed,) = run.climb(Mesh(99), 1e-2, start=8, factor=2.0, fixed=True)
    panels = spline_panels(nodes)
    areas = [
        [sum(panels[j, k] * path(float(nodes[k]))[0][t] for k in range(9)) for t in range(3)]
        for j in range(8)
    ]
    changes = [path(float(nodes[j + 1]))[1] - path(float(nodes[j]))[1] for j in range(8)]
    defects = [change - sum(area) for change, area in zip(changes, areas, strict=True)]
    padded = [0.0, *defects, 0.0]
    total = [sum(area[t] for area in areas) for t in range(3)]
    estimate = 0.0
    for j in range(8):
        smooth = padded[j] / 4 + padded[j + 1] / 2 + padded[j + 2] / 4
        size = math.hypot(*areas[j])
        estimate += (abs(smooth) + abs(defects[j]) / 4) * size / max(abs(changes[j]), size)
    assert climbed.verdict.estimate == pytest.approx(2.0 * estimate / math.hypot(*total), rel=1e-9)
    np.testing.assert_allclose(climbed.verdict.integral, total, rtol=1e-12)
    assert climbed.verdict.parts.sum() == pytest.approx(climbed.verdict.estimate)


@pytest.mark.parametrize("tolerance", [1e-1, 1e-2, 1e-3, 1e-5])
@pytest.mark.parametrize("name", ["auto", "trapezoid", "midpoint", "gauss-kronrod", "gauss-legendre"])
def test_every_rule_climbs_to_the_tolerance_and_says_no_less_than_the_truth(
    name: str, tolerance: float
) -> None:
    path = bumps(0.37, width=0.08)
    run = Run(path)
    (climbed,) = run.climb(rule(name, 500), tolerance, start=12 if name == "auto" else 0)
    error = relative(climbed.verdict.integral, integral(path))
    assert climbed.converged or (tolerance == 1e-5 and name != "auto")
    assert error <= climbed.verdict.estimate + 1e-7
    if climbed.converged:
        assert climbed.verdict.estimate <= tolerance
    assert run.samples[0].evaluated == sum(len(rows) for rows in run.rounds)
    evaluated = [a for rows in run.rounds for _, a in rows]
    assert len(evaluated) == len(set(evaluated)), "no node twice"


def test_a_mesh_goes_where_the_bumps_are() -> None:
    run = Run(bumps(0.2, 0.8, width=0.02))
    (climbed,) = run.climb(Mesh(200), 1e-3)
    assert climbed.converged
    widths, middles = np.diff(climbed.nodes), (climbed.nodes[1:] + climbed.nodes[:-1]) / 2
    near = np.minimum(abs(middles - 0.2), abs(middles - 0.8)) < 0.04
    assert widths[near].max() < widths[~near].max() / 4
    assert len(climbed.nodes) < 80


def test_a_bump_between_the_nodes_is_noticed_though_every_rung_agrees() -> None:
    """At the nodes of both rungs the bump has not begun: their difference is nought, and the error is not."""
    path = bumps(0.3 + 1 / 24, width=0.004)
    coarse, fine = rule("trapezoid", 99).first(1), rule("trapezoid", 99).first(2)
    values = [(Run(path), nodes) for nodes in (coarse, fine)]
    found = [
        run.climb(rule("trapezoid", 99), 0.02, start=i + 1, fixed=True)[0]
        for i, (run, _) in enumerate(values)
    ]
    assert relative(found[0].verdict.integral, found[1].verdict.integral) < 0.05
    assert not found[0].converged
    assert not found[1].converged
    (climbed,) = Run(path).climb(Mesh(300), 1e-2)
    assert climbed.converged
    assert relative(climbed.verdict.integral, integral(path)) < 1e-2


def test_documents_climb_by_themselves_and_share_rounds() -> None:
    easy, hard = bumps(0.5, width=0.5), bumps(0.31, width=0.01)
    alone = [Run(path) for path in (easy, hard)]
    expected = [run.climb(Mesh(300), 1e-3)[0] for run in alone]
    together = Run(easy, hard, easy)
    found = together.climb(Mesh(300), 1e-3)
    for a, b in zip(found, [expected[0], expected[1], expected[0]], strict=True):
        assert np.array_equal(a.nodes, b.nodes)
        np.testing.assert_allclose(a.verdict.integral, b.verdict.integral, rtol=1e-13)
    assert len(together.rounds) == max(len(run.rounds) for run in alone)
    assert together.samples[0].evaluated < together.samples[1].evaluated


def test_a_cap_leaves_a_result_that_says_it_has_not_converged() -> None:
    (climbed,) = Run(bumps(0.31, width=0.005)).climb(Mesh(16), 1e-4)
    assert not climbed.converged
    assert len(climbed.nodes) == 16
    assert climbed.verdict.estimate > 1e-4
    assert np.isfinite(climbed.verdict.integral).all()


def test_fixed_steps_stay_and_are_judged() -> None:
    for path, good in ((bumps(0.5, width=0.5), True), (bumps(0.5, width=0.01), False)):
        run = Run(path)
        (climbed,) = run.climb(rule("auto", 486, 13), 1e-2, fixed=True)
        assert (len(climbed.nodes), len(run.rounds), climbed.converged) == (13, 1, good)


def test_what_is_left_to_rounding_ends_the_climb() -> None:
    """An output with noise of 1e-3 cannot be integrated to 1e-6, however many nodes there are."""
    rng = np.random.default_rng(0)
    smooth = bumps(0.5, width=0.5)

    def noisy(a: float) -> tuple[Float64, float]:
        values, output = smooth(a)
        return values, output + 1e-3 * rng.standard_normal()

    run = Run(noisy)
    (climbed,) = run.climb(Mesh(5000), 1e-6)
    assert not climbed.converged
    assert len(climbed.nodes) < 500


def test_nothing_to_integrate_is_done_at_once() -> None:
    (climbed,) = Run(lambda a: (np.zeros(3), 1.0)).climb(Mesh(100), 1e-2)
    assert climbed.converged
    assert climbed.verdict.estimate == 0
    assert (climbed.verdict.integral == 0).all()


def test_contributions_that_cancel_are_not_taken_for_none() -> None:
    """Σ_t g_t = 0 throughout, so f tells nothing: the completeness residual is nought at any number of nodes."""
    path = bumps(0.4, width=0.05, heights=(1.0, -1.0, 0.0))
    (climbed,) = Run(path).climb(Mesh(100), 1e-2)
    assert relative(climbed.verdict.integral, integral(path)) < 0.05


def test_an_integrand_that_is_not_finite_ends_the_climb_unconverged() -> None:
    (climbed,) = Run(lambda a: (np.full(2, np.nan if 0 < a < 1 else 0.0), 0.0)).climb(Mesh(100), 1e-2)
    assert not climbed.converged


def test_judging_many_is_judging_each() -> None:
    paths = [bumps(c, width=w) for c in (0.2, 0.5, 0.9) for w in (0.05, 0.2)]
    run = Run(*paths)
    meshes = [np.linspace(0, 1, n) for n in (5, 9, 9, 5, 7, 9)]
    for i, mesh in enumerate(meshes):
        new = run.samples[i].missing(mesh)
        values, outputs, nothing = run.evaluate([(i, a) for a in new])
        run.samples[i].add(new, np.stack(values), outputs, np.stack(nothing))
    together = judge(Mesh(99), meshes, run.samples, 1.0)
    for i, mesh in enumerate(meshes):
        (alone,) = judge(Mesh(99), [mesh], [run.samples[i]], 1.0)
        np.testing.assert_allclose(alone.integral, together[i].integral, rtol=1e-13)
        assert alone.estimate == pytest.approx(together[i].estimate, rel=1e-12)
