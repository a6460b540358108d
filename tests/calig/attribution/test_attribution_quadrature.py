"""The rules are nested, and integrate what they should exactly."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.polynomial.legendre import Legendre, leggauss

from calig.attribution.quadrature import RULES, Ladder, ladder
from calig.attribution.schedule import Schedule


def integrate(rules: Ladder, rung: int, values: np.ndarray) -> float:
    return float(rules.weights[rung] @ values[: rules.counts[rung]])


def legendre(degree: int, nodes: np.ndarray) -> np.ndarray:
    """P_degree on [0, 1]: its integral is 0, but for degree 0, where it is 1."""
    return np.asarray(Legendre.basis(degree, domain=[0, 1])(nodes))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("most", [6, 20, 127, 486])
class TestEveryRule:
    def test_rungs_are_nested_and_within_the_most_nodes(self, rule: str, most: int) -> None:
        rules = ladder(rule, most)
        assert len(rules.counts) == len(rules.weights) == len(rules.caution) >= 2
        assert list(rules.counts) == sorted(set(rules.counts))
        assert rules.counts[-1] == len(rules.nodes) <= most
        assert len(set(rules.nodes)) == len(rules.nodes)
        for rung, weights in enumerate(rules.weights):
            assert len(weights) == rules.counts[rung]
        done = 0
        for rung, count in enumerate(rules.counts):
            new = rules.new_nodes(rung, done)
            assert len(new) == count - done
            done = count
        assert rules.top == len(rules.counts) - 1

    def test_weights_sum_to_one_and_nodes_lie_inside_symmetrically(self, rule: str, most: int) -> None:
        rules = ladder(rule, most)
        for rung, count in enumerate(rules.counts):
            nodes, weights = rules.nodes[:count], rules.weights[rung]
            assert weights.sum() == pytest.approx(1, abs=1e-14)
            assert (weights > 0).all()
            assert ((nodes > 0) & (nodes < 1)).all()
            order, mirror = np.argsort(nodes), np.argsort(1 - nodes)
            np.testing.assert_allclose(nodes[order], (1 - nodes)[mirror], atol=1e-15)
            np.testing.assert_allclose(weights[order], weights[mirror], atol=1e-15)


def test_midpoint_has_evenly_spaced_nodes_and_integrates_lines() -> None:
    rules = ladder("midpoint", 486)
    assert rules.counts == (2, 6, 18, 54, 162, 486)
    for rung, count in enumerate(rules.counts):
        np.testing.assert_allclose(np.sort(rules.nodes[:count]), (np.arange(count) + 0.5) / count, atol=1e-15)
        assert integrate(rules, rung, rules.nodes) == pytest.approx(1 / 2, abs=1e-14)
        off = 1 / 3 - integrate(rules, rung, rules.nodes**2)
        assert off == pytest.approx(1 / (12 * count**2), rel=1e-6), "the known error of x²"


def test_patterson_integrates_polynomials_of_degree_three_n_plus_one_halves() -> None:
    rules = ladder("gauss-patterson", 127)
    assert rules.counts == (1, 3, 7, 15, 31, 63, 127)
    for rung, count in enumerate(rules.counts):
        degree = 1 if count == 1 else (3 * count + 1) // 2
        for k in range(degree + 1):
            found = integrate(rules, rung, legendre(k, rules.nodes))
            assert found == pytest.approx(float(k == 0), abs=1e-13)
        if count <= 31:
            beyond = abs(integrate(rules, rung, legendre(degree + 1, rules.nodes)))
            assert beyond > 1e-6, "and of no higher one"


def test_patterson_begins_with_gauss() -> None:
    rules = ladder("gauss-patterson", 127)
    nodes, weights = leggauss(3)
    order = np.argsort(rules.nodes[:3])
    np.testing.assert_allclose(rules.nodes[:3][order], (nodes + 1) / 2, atol=1e-15)
    np.testing.assert_allclose(rules.weights[1][order], weights / 2, atol=1e-15)


@pytest.mark.parametrize(
    ("rule", "most", "counts"),
    [
        ("midpoint", 6, (2, 6)),
        ("midpoint", 17, (2, 6)),
        ("midpoint", 18, (2, 6, 18)),
        ("gauss-patterson", 6, (1, 3)),
        ("gauss-patterson", 7, (1, 3, 7)),
        ("gauss-patterson", 10**6, (1, 3, 7, 15, 31, 63, 127)),
    ],
)
def test_the_last_rung_is_the_last_within_the_most_nodes(
    rule: str, most: int, counts: tuple[int, ...]
) -> None:
    assert ladder(rule, most).counts == counts


def test_auto_is_midpoint_at_the_embeddings_and_patterson_above() -> None:
    auto = Schedule.default("auto", 3, 486)
    assert auto.rules == ("midpoint", *("gauss-patterson",) * 3)
    for rule in RULES:
        assert Schedule.default(rule, 3, 486).rules == (rule,) * 4
    for depth, rule in enumerate(auto.rules):
        assert auto.factors[depth] == ladder(rule, 486).caution
