"""What a comparison could have seen: the smallest change that it finds with 80 % power, in the measure's own unit.

Each function answers for one test of this package at its level; where several are made, that is the level of each.
Measured with those tests (`tests/calig/comparison/test_power.py`): at the change given they find it in 70 to 90 % of
samples of 20 to 400 documents.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import scipy  # its parts are loaded where they are first used

from calig.bootstrap import Doubles
from calig.comparison.drift import SMOOTHING
from calig.comparison.exact import log_choose
from calig.comparison.permutation import paired_floor, samples_floor

POWER = 0.8
"""The chance to find a change, where it is said what could have been seen."""

LARGE = 250_000  # pairs of counts: with more, the formula for large samples is as good as the exact test
STEPS = 50  # halvings of an interval


def shares_detectable(share: float, of_a: float, of_b: float, level: float, power: float = POWER) -> float:
    """Smallest change of a share that `shares_p`, Fisher's exact test, finds, where it moves towards one half.

    That is where a change is hardest to see: of an accuracy above one half, a fall.

    Parameters
    ----------
    share
        The reference's share, 0 to 1.
    of_a, of_b
        Documents of the two runs.
    level
        What p has to be at most.
    power
        The chance that it is.

    Returns
    -------
    The difference of the shares; infinite where not even the largest that there can be is found so often, NaN where
    there is no share or a run has no documents.

    References
    ----------
    J. L. Fleiss, B. Levin, M. C. Paik, *Statistical Methods for Rates and Proportions*, 3rd ed., 2003, section 4.4: for
    large samples, with the correction for continuity.
    """
    if math.isnan(share) or min(of_a, of_b) < 1:
        return math.nan
    first = min(share, 1 - share)
    if of_a * of_b > LARGE:
        found = _fleiss_found(first, of_a, of_b, level)
    else:
        rejected = _rejected(int(of_a), int(of_b), level)
        chance = _binomial(int(of_a), first)

        def found(second: float) -> float:
            return float(chance @ rejected @ _binomial(int(of_b), second))

    return _smallest(lambda change: found(first + change), 1 - first, power)


def flips_detectable(pairs: float, level: float, power: float = POWER) -> float:
    """Smallest share of paired documents that `mcnemar_p` finds if so many change, all in one direction.

    If others change in the other direction, the difference between the two has to be larger.

    Parameters
    ----------
    pairs
        Documents that both runs hold.
    level
        What p has to be at most.
    power
        The chance that it is.

    Returns
    -------
    The share, 0 to 1; infinite where all of them would be too few, NaN where there are none.
    """
    if pairs < 1:
        return math.nan
    needed = max(1, math.ceil(1 - math.log2(level) - 1e-9))  # 2·2⁻ᵏ ≤ level
    if needed > pairs:
        return math.inf
    # P(Bin(pairs, share) ≥ needed) = power
    return float(scipy.stats.beta.ppf(power, needed, pairs - needed + 1))


def means_detectable(deviation: float, of_a: float, of_b: float, level: float, power: float = POWER) -> float:
    """Smallest difference of two samples' means that `samples_p` finds.

    Parameters
    ----------
    deviation
        Standard deviation over documents, of each sample.
    of_a, of_b
        Documents of the two runs.
    level
        What p has to be at most.
    power
        The chance that it is.

    Returns
    -------
    The difference, by the noncentral t distribution; infinite where so few documents have no p as small, NaN where
    there is no deviation.
    """
    if math.isnan(deviation) or min(of_a, of_b) < 1:
        return math.nan
    if float(samples_floor(np.array(of_a), np.array(of_b))) > level:
        return math.inf
    return _t_detectable(deviation * math.sqrt(1 / of_a + 1 / of_b), of_a + of_b - 2, level, power)


def changes_detectable(deviation: float, pairs: float, level: float, power: float = POWER) -> float:
    """Smallest mean change of paired documents that `paired_p` finds.

    Parameters
    ----------
    deviation
        Standard deviation of the documents' changes.
    pairs
        Documents that both runs hold.
    level
        What p has to be at most.
    power
        The chance that it is.

    Returns
    -------
    The mean change, by the noncentral t distribution; infinite where so few documents have no p as small, NaN where
    there is no deviation.
    """
    if math.isnan(deviation) or pairs < 1:
        return math.nan
    if float(paired_floor(pairs)) > level:
        return math.inf
    return _t_detectable(deviation / math.sqrt(pairs), pairs - 1, level, power)


def psi_detectable(bins: float, of_a: float, of_b: float, beyond: float, power: float = POWER) -> float:
    """Smallest population stability index of two distributions with which that of two samples is above a limit.

    The index of two samples, `of_counts`, over 1/n + 1/m has about the noncentral chi-squared distribution.

    Parameters
    ----------
    bins
        Bins with documents in them.
    of_a, of_b
        Documents of the two runs.
    beyond
        What the index has to be above.
    power
        The chance that it is.

    Returns
    -------
    The index; 0 where the limit is passed so often without any change, NaN where a run has no documents.

    References
    ----------
    B. Yurdakul, *Statistical Properties of Population Stability Index*, 2018, theorem 3.3.
    """
    if bins < 2 or min(of_a, of_b) < 1:
        return math.nan
    unit, freedom = 1 / of_a + 1 / of_b, bins - 1
    # of_counts takes off what there is on average, and half a document more in each bin brings two samples together
    together = (1 + SMOOTHING * bins / of_a) * (1 + SMOOTHING * bins / of_b)
    passed = (beyond / unit + freedom) * together
    if scipy.stats.chi2.sf(passed, freedom) >= power:
        return 0.0
    return unit * float(scipy.special.chndtrinc(passed, freedom, 1 - power))


def psi_documents(bins: float, limit: float, level: float) -> float:
    """How many documents each run needs for chance alone to pass a limit of the population stability index so rarely.

    Parameters
    ----------
    bins
        Bins with documents in them.
    limit
        The limit, above 0.
    level
        The chance that the index of two samples of one distribution is above it.
    """
    if bins < 2:
        return math.nan
    beyond = float(scipy.stats.chi2.isf(level, bins - 1)) - (bins - 1)
    return max(1.0, float(math.ceil(2 * beyond / limit)))


def _rejected(of_a: int, of_b: int, level: float) -> Doubles:
    """(of_a + 1, of_b + 1) whether Fisher's test rejects these counts in a and b because the share in b is larger."""
    held = np.arange(of_a + of_b + 1)[:, None]
    own = np.arange(of_b + 1)[None]
    outside = (own > held) | (held - own > of_a)
    with np.errstate(invalid="ignore", divide="ignore"):
        log_mass = (
            log_choose(of_b, own)
            + log_choose(of_a, np.clip(held - own, 0, of_a))
            - log_choose(of_a + of_b, held)
        )
    mass = np.where(outside, 0, np.exp(log_mass))
    tails = np.cumsum(mass[:, ::-1], axis=1)[:, ::-1]
    a, b = np.arange(of_a + 1)[:, None], np.arange(of_b + 1)[None]
    found: Doubles = ((2 * tails[a + b, b] <= level * (1 + 1e-9)) & (b * of_a > a * of_b)).astype(np.float64)
    return found


def _binomial(count: int, share: float) -> Doubles:
    found: Doubles = scipy.stats.binom.pmf(np.arange(count + 1), count, share)
    return found


def _fleiss_found(first: float, of_a: float, of_b: float, level: float) -> Callable[[float], float]:
    """The chance that a second share is found, of large samples."""
    normal = float(scipy.stats.norm.isf(level / 2))

    def found(second: float) -> float:
        mean = (first * of_a + second * of_b) / (of_a + of_b)
        unit = 1 / of_a + 1 / of_b
        apart = second - first - unit / 2
        null = normal * math.sqrt(mean * (1 - mean) * unit)
        spread = math.sqrt(first * (1 - first) / of_a + second * (1 - second) / of_b)
        return float(scipy.stats.norm.cdf((apart - null) / spread)) if spread else float(apart > null)

    return found


def _t_detectable(error: float, freedom: float, level: float, power: float) -> float:
    """Smallest mean that Student's test finds, given its standard error."""
    critical = float(scipy.stats.t.isf(level / 2, freedom))
    return error * float(scipy.special.nctdtrinc(freedom, 1 - power, critical))


def _smallest(found: Callable[[float], float], most: float, power: float) -> float:
    """The change, of 0 to the most, from which on it is found so often."""
    low, high = 0.0, most
    if found(high) < power:
        return math.inf
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if found(middle) < power else (low, middle)
    return high
