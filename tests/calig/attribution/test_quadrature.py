"""Rules on [0, 1] against what they must integrate exactly, and against numpy's."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.polynomial import legendre
from numpy.polynomial.polynomial import polyint, polyval

from calig.attribution.quadrature import (
    RULES,
    Float64,
    Ladder,
    Mesh,
    Rule,
    Verdict,
    breaks,
    rule,
    spline_panels,
)
from tests.material.fuzz import examples

LADDERS = [name for name in RULES if name != "auto"]


def rungs(name: str, most: int = 63) -> list[tuple[Float64, Float64]]:
    """Nodes (n,) and panel weights (p, n) of every rung."""
    kind = rule(name, most)
    assert isinstance(kind, Ladder)
    nodes = [kind.first(rung) for rung in range(len(kind.counts))]
    return [(x, kind.panels(x)) for x in nodes]


def exact(coefficients: Float64, edges: Float64) -> Float64:
    """Integral of a polynomial over each panel."""
    return np.diff(polyval(edges, polyint(coefficients)))


def test_ladders_have_the_rungs_of_their_rules() -> None:
    counts = {name: [len(nodes) for nodes, _ in rungs(name)] for name in LADDERS}
    assert counts == {
        "midpoint": [2, 6, 18, 54],
        "trapezoid": [3, 5, 9, 17, 33],
        "gauss-kronrod": [3, 7, 15, 31, 63],
        "gauss-legendre": [4, 8, 16, 32],
    }
    assert [len(nodes) for nodes, _ in rungs("gauss-kronrod", 10)] == [3, 7]
    assert [len(nodes) for nodes, _ in rungs("midpoint", 5)] == [2]


@pytest.mark.parametrize("name", ["midpoint", "trapezoid", "gauss-kronrod"])
def test_ladders_are_nested(name: str) -> None:
    nodes = [set(x.tolist()) for x, _ in rungs(name)]
    assert all(coarse < fine for coarse, fine in pairwise(nodes))


@pytest.mark.parametrize("name", LADDERS)
def test_panels_lie_between_nodes_and_reach_both_ends(name: str) -> None:
    kind = rule(name, 63)
    for nodes, weights in rungs(name):
        edges = breaks(nodes)
        assert (edges[0], edges[-1]) == (0, 1)
        assert set(nodes) <= set(edges)
        assert (np.diff(edges) > 0).all()
        assert weights.shape == (len(edges) - 1, len(nodes))
        np.testing.assert_allclose(weights.sum(axis=1), np.diff(edges), atol=1e-12)
        assert kind.ends == (len(edges) == len(nodes))


def test_sums_over_panels_are_the_rules_known_to_numpy() -> None:
    for nodes, weights in rungs("gauss-legendre"):
        points, expected = legendre.leggauss(len(nodes))
        np.testing.assert_allclose(nodes, (points + 1) / 2, atol=1e-15)
        np.testing.assert_allclose(weights.sum(axis=0), expected / 2, atol=1e-13)
    for nodes, weights in rungs("midpoint"):
        np.testing.assert_allclose(weights.sum(axis=0), 1 / len(nodes), atol=1e-14)
        np.testing.assert_allclose(nodes, (np.arange(len(nodes)) + 0.5) / len(nodes), atol=1e-15)
    for nodes, weights in rungs("trapezoid"):
        for values in np.eye(len(nodes)):
            assert weights.sum(axis=0) @ values == pytest.approx(np.trapezoid(values, nodes), abs=1e-14)


def test_patterson_s_rules_are_exact_to_degree_three_n_plus_one_halves() -> None:
    for nodes, weights in rungs("gauss-kronrod"):
        degree = 5 if len(nodes) == 3 else (3 * len(nodes) + 1) // 2
        for k in range(degree + 1):
            values = legendre.legval(2 * nodes - 1, [0] * k + [1])
            assert weights.sum(axis=0) @ values == pytest.approx(float(k == 0), abs=1e-10)


@pytest.mark.parametrize("name", ["gauss-kronrod", "gauss-legendre"])
def test_gauss_panels_are_exact_for_the_polynomial_through_the_nodes(name: str) -> None:
    rng = np.random.default_rng(0)
    for nodes, weights in rungs(name, 16):
        coefficients = rng.normal(size=len(nodes))
        found = weights @ polyval(nodes, coefficients)
        np.testing.assert_allclose(found, exact(coefficients, breaks(nodes)), atol=1e-9)


@examples(40)
@given(st.lists(st.floats(0.02, 1), min_size=3, max_size=20), st.integers(0, 10**6))
def test_splines_are_exact_for_cubics_on_any_mesh(widths: list[float], seed: int) -> None:
    nodes = np.concatenate([[0], np.cumsum(widths) / np.sum(widths)])
    coefficients = np.random.default_rng(seed).normal(size=4)
    found = spline_panels(nodes) @ polyval(nodes, coefficients)
    np.testing.assert_allclose(found, exact(coefficients, nodes), atol=1e-9)


def test_a_batch_of_meshes_gives_what_each_gives_alone() -> None:
    meshes = np.sort(np.random.default_rng(1).uniform(size=(5, 9)), axis=1)
    meshes[:, 0], meshes[:, -1] = 0, 1
    for mesh, weights in zip(meshes, spline_panels(meshes), strict=True):
        np.testing.assert_allclose(weights, spline_panels(mesh), atol=1e-12)


def test_a_spline_on_equal_panels_resolves_a_bump_as_the_trapezoid_rule_does_and_mends_its_ends() -> None:
    def bump(x: Float64) -> Float64:
        return np.exp(-((x - 0.45) ** 2) / (2 * 0.06**2)) + x

    fine = np.linspace(0, 1, 100_001)
    truth = float(np.trapezoid(bump(fine), fine))
    errors = {}
    for name, kind in (("spline", rule("auto", 99)), ("gauss", rule("gauss-legendre", 99, steps=17))):
        nodes = kind.first(16)
        assert len(nodes) == 17
        errors[name] = abs(float((kind.panels(nodes) @ bump(nodes)).sum()) - truth)
    assert errors["spline"] < 1e-4
    assert errors["spline"] < errors["gauss"] / 10


def verdict(*parts: float) -> Verdict:
    return Verdict(np.ones(1), np.array(parts), np.ones(len(parts) + 1))


class TestMesh:
    def test_halves_the_fewest_panels_that_leave_the_others_within_the_tolerance(self) -> None:
        mesh = Mesh(100)
        nodes = mesh.first(4)
        assert nodes.tolist() == [0, 0.25, 0.5, 0.75, 1]
        found = mesh.next(nodes, verdict(0.001, 0.02, 0.05, 0.002), 0.01)
        assert found is not None
        assert found.tolist() == [0, 0.25, 0.375, 0.5, 0.625, 0.75, 1]
        only = mesh.next(nodes, verdict(0.001, 0.002, 0.05, 0.002), 0.01)
        assert only is not None
        assert only.tolist() == [0, 0.25, 0.5, 0.625, 0.75, 1]

    def test_an_estimate_within_the_tolerance_but_not_the_residual_still_gets_a_node(self) -> None:
        found = Mesh(100).next(Mesh(100).first(4), verdict(0.001, 0.002, 0.001, 0.001), 0.01)
        assert found is not None
        assert len(found) == 6

    def test_never_exceeds_its_cap(self) -> None:
        mesh = Mesh(6)
        nodes = mesh.next(mesh.first(4), verdict(1.0, 3.0, 2.0, 4.0), 0.01)
        assert nodes is not None
        assert nodes.tolist() == [0, 0.25, 0.5, 0.75, 0.875, 1]
        assert mesh.next(nodes, verdict(1.0, 3.0, 2.0, 4.0, 1.0), 0.01) is None


def test_a_ladder_ends_at_its_last_rung() -> None:
    kind = rule("midpoint", 18)
    assert [len(kind.first(start)) for start in (0, 1, 2, 9)] == [2, 6, 18, 18]
    following = kind.next(kind.first(0), verdict(1.0), 0.01)
    assert following is not None
    assert len(following) == 6
    assert kind.next(kind.first(2), verdict(1.0), 0.01) is None


@pytest.mark.parametrize(
    ("name", "steps", "said"),
    [
        ("auto", 3, "auto takes 4 or more steps, not 3"),
        ("midpoint", 0, "midpoint takes 1 or more steps, not 0"),
        ("trapezoid", 1, "trapezoid takes 2 or more steps, not 1"),
        ("gauss-kronrod", 8, "gauss-kronrod takes one of 3, 7, 15, 31, 63 steps, not 8"),
    ],
)
def test_a_number_of_steps_that_a_rule_does_not_have_is_refused(name: str, steps: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        rule(name, 486, steps)


@pytest.mark.parametrize(
    ("name", "steps"), [("auto", 10), ("midpoint", 7), ("trapezoid", 4), ("gauss-kronrod", 7)]
)
def test_fixed_steps_are_that_many_nodes(name: str, steps: int) -> None:
    kind: Rule = rule(name, 486, steps)
    assert len(kind.first(12 if name == "auto" else 0)) == steps


@pytest.mark.parametrize("name", LADDERS)
def test_rungs_cost_nothing_until_they_are_climbed(name: str) -> None:
    """Weights of a rule of a million nodes would fill the memory."""
    kind = rule(name, 10**9)
    assert isinstance(kind, Ladder)
    assert len(kind.panels(kind.first(1))) > 0
