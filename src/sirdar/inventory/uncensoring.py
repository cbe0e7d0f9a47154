# SPDX-License-Identifier: Apache-2.0
"""True demand from sales: where a product ran out, what was sold is only a lower bound of what was wanted.

Weekly demand of series i is negative binomial with mean m_i and variance m_i + d m_i^2; d = 0 is Poisson. A step in
stock shows its demand; a step that ran out after s units shows only that demand was at least s, and one that never had
stock (s = 0) shows nothing. The means are found by expectation maximisation, Dempster, Laird and Rubin (1977), Journal
of the Royal Statistical Society B 39(1): a censored step counts with

    E[D | D >= s] = m P(D' >= s - 1) / P(D >= s),      D' the same law with shape 1/d + 1

and each mean is drawn towards that of all series by credibility, Buehlmann (1967), ASTIN Bulletin 4(3). The dispersion
d maximises the censored likelihood. Where series move together, the mean of step t is m_i f_t, f_t being what all
series want in it over what they usually want: a season or a trend that they share.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import betainc, gammainc, gammaln, xlogy

from sirdar.errors import ArgumentError, require_seed

Steps = Float[np.ndarray, "series time"]
Mask = Bool[np.ndarray, "series time"]
Means = Float[np.ndarray, " series"]
Profile = Float[np.ndarray, " time"]
SWEEPS = 200  # of expectation and maximisation, at most
POISSON = 1e-4  # a dispersion below this is none
_ASKED = 1000  # series that tell the dispersion
_ROUNDS, _TURNS = 4, 3  # of finding what series share; and of finding it by turns with the dispersion


def uncensor(
    sales: ArrayLike,
    in_stock: ArrayLike,
    *,
    dispersion: float | None = None,
    pool: bool = True,
    together: bool = False,
    seed: int | None = None,
) -> Steps:
    """Demand, given what was sold.

    Args:
        sales: units sold, [series, time]; not negative.
        in_stock: [series, time]; false where the product ran out in that step, or was never there.
        dispersion: d above, the same for all series; estimated when None.
        pool: draw the mean of each series towards that of all, the more the less it was seen.
        together: series share seasons and trends; else the mean of each is the same in all steps.
        seed: None gives the expected demand of censored steps; a seed gives one draw of it, in whole units.

    Returns:
        Demand [series, time]: sales where in stock, never less elsewhere.

    Raises:
        ArgumentError: shapes disagree, sales are negative or not finite, or a series shows nothing to learn from.
    """
    sold, seen = _checked(sales, in_stock)
    known, profile = dispersion, np.ones(sold.shape[1])
    dispersion = _dispersion(sold, seen, profile, pool=pool) if known is None else _dispersed(known)
    for _ in range(_TURNS if together else 0):  # a season that is not known yet counts as dispersion at first
        profile = _shared(sold, seen, dispersion, pool=pool)
        if known is not None:
            break
        dispersion = _dispersion(sold, seen, profile, pool=pool)
    means = _means(sold, seen, dispersion, profile, pool=pool)
    wanted, (rows, steps) = sold.copy(), np.nonzero(~seen)
    mean, units = means[rows] * profile[steps], sold[rows, steps]
    if seed is None:
        found = at_least(units, mean, dispersion)
    else:
        found = _draw(units, mean, dispersion, np.random.default_rng(require_seed(seed)))
    wanted[rows, steps] = np.maximum(found, units)
    return wanted


def censored_means(sales: ArrayLike, in_stock: ArrayLike, dispersion: float = 0.0, *, pool: bool = True) -> Means:
    """Mean demand per step of each series. Without `pool`, the maximum of the censored likelihood."""
    sold, seen = _checked(sales, in_stock)
    return _means(sold, seen, _dispersed(dispersion), np.ones(sold.shape[1]), pool=pool)


def at_least(sold: np.ndarray, mean: np.ndarray, dispersion: float) -> np.ndarray:
    """Expected demand that is at least `sold`, under the law of the given mean."""
    beyond = _survival(sold, mean, dispersion)
    if dispersion < POISSON:
        above = _survival(sold - 1, mean, 0.0)
    else:
        above = _tail(sold - 1, 1 / dispersion + 1, mean, dispersion)
    # So far in the tail that its chance vanishes in float64, the bound itself is the best that can be said.
    ratio = np.divide(above, beyond, out=np.zeros_like(beyond), where=beyond > 0)
    return np.maximum(mean * ratio, sold)


def _shared(sold: Steps, seen: Mask, dispersion: float, *, pool: bool) -> Profile:
    """What all series want in each step over what they usually want, by turns with their means; by credibility too."""
    tells, profile = seen | (sold > 0), np.ones(sold.shape[1])
    rows, steps = np.nonzero(~seen & tells)
    for _ in range(_ROUNDS):
        means = _means(sold, seen, dispersion, profile, pool=pool)
        found = at_least(sold[rows, steps], means[rows] * profile[steps], dispersion)
        total = (sold * seen).sum(axis=0) + np.bincount(steps, found, len(profile))
        usual = np.maximum(means @ tells, 1e-9)
        each = np.where(tells.any(axis=0), total / usual, 1.0)
        noise = (means + dispersion * means**2) @ tells / usual**2
        between = max(each.var() - noise.mean(), 0.0)
        profile = 1 + between / np.maximum(between + noise, 1e-12) * (each - 1)
        profile = np.maximum(profile / profile.mean(), 1e-6)
    return profile


def _means(sold: Steps, seen: Mask, dispersion: float, profile: Profile, *, pool: bool) -> Means:
    tells = seen | (sold > 0)  # a step without stock from its beginning shows nothing
    count = tells @ profile
    silent = np.flatnonzero(~tells.any(axis=1))
    alone = not pool or len(sold) == 1
    if len(silent) and (alone or len(silent) == len(sold)):
        msg = f"series {int(silent[0])} was never in stock and sold nothing, so its demand is unknown; leave it out"
        raise ArgumentError(msg)
    shown = np.where(tells.any(axis=1), count, 1.0)
    means = np.maximum((sold * tells).sum(axis=1) / shown, 1e-6)
    means[silent] = means[count > 0].mean()
    bought, (rows, steps) = (sold * seen).sum(axis=1), np.nonzero(~seen & tells)
    units, part = sold[rows, steps], profile[steps]
    for _ in range(SWEEPS):
        before = means
        means = (bought + np.bincount(rows, at_least(units, means[rows] * part, dispersion), len(sold))) / shown
        if not alone:
            means = _towards_all(means, count, dispersion)
        means = np.maximum(means, 1e-9)
        if np.allclose(means, before, rtol=1e-8, atol=1e-10):
            break
    return means


def _towards_all(means: Means, count: np.ndarray, dispersion: float) -> Means:
    """Credibility: weight V / (V + v_i / n_i), V the variance between series, v_i that within."""
    known = count > 0
    grand = means[known].mean()
    noise = (grand + dispersion * grand**2) / np.maximum(count, 1)
    between = max(means[known].var() - noise[known].mean(), 0.0)
    weight = np.where(known, between / (between + noise), 0.0) if grand > 0 else np.ones_like(means)
    return weight * means + (1 - weight) * grand


def _dispersion(sold: Steps, seen: Mask, profile: Profile, *, pool: bool) -> float:
    some = slice(None, None, -(-len(sold) // _ASKED))
    sold, seen = sold[some], seen[some]

    def loss(log_dispersion: float) -> float:
        d = float(np.exp(log_dispersion))
        means = _means(sold, seen, d, profile, pool=pool)[:, None] * profile
        chance = _survival(sold[~seen], means[~seen], d)
        return -float(_log_chance(sold[seen], means[seen], d).sum() + np.log(np.maximum(chance, 1e-300)).sum())

    search: Any = minimize_scalar  # its stubs know no bounds
    found = search(loss, bounds=(np.log(POISSON) - 1, np.log(20.0)), method="bounded", options={"xatol": 0.02})
    best = float(np.exp(found.x))
    return 0.0 if best < POISSON else best


def _survival(units: np.ndarray, mean: np.ndarray, dispersion: float) -> np.ndarray:
    """P(D >= units)."""
    if dispersion < POISSON:
        units, mean = np.broadcast_arrays(units, mean)
        return np.where(units > 0, gammainc(np.maximum(units, 1e-12), mean), 1.0)
    return _tail(units, 1 / dispersion, mean, dispersion)


def _tail(units: np.ndarray, shape: float, mean: np.ndarray, dispersion: float) -> np.ndarray:
    """P(D >= units) of the negative binomial law with this shape and success chance 1 / (1 + d m)."""
    share = dispersion * mean / (1 + dispersion * mean)
    return np.where(units > 0, betainc(np.maximum(units, 1e-12), shape, share), 1.0)


def _log_chance(units: np.ndarray, mean: np.ndarray, dispersion: float) -> np.ndarray:
    """Logarithm of P(D = units)."""
    if dispersion < POISSON:
        return xlogy(units, mean) - mean - gammaln(units + 1)
    r, scaled = 1 / dispersion, dispersion * mean
    combined = gammaln(units + r) - gammaln(r) - gammaln(units + 1)
    return combined + xlogy(units, scaled) - (units + r) * np.log1p(scaled)


def _draw(sold: np.ndarray, mean: np.ndarray, dispersion: float, random: np.random.Generator) -> np.ndarray:
    """One draw of demand that is at least `sold`, by inverting the tail."""
    tail = random.uniform(size=sold.shape) * _survival(sold, mean, dispersion)
    # The largest k with P(D >= k) >= tail, by bisection between the bound and far out.
    low = np.ceil(sold)
    # Where its chance vanishes in float64 the bound is the best that can be said, as in `at_least`.
    high = low + np.where(tail > 0, np.ceil(40 * (1 + mean * (1 + dispersion))), 1.0)
    while (high - low > 1).any():
        middle = np.floor((low + high) / 2)
        reached = _survival(middle, mean, dispersion) >= tail
        low, high = np.where(reached, middle, low), np.where(reached, high, middle)
    return low


def _dispersed(dispersion: float) -> float:
    if not (np.isfinite(dispersion) and dispersion >= 0):
        msg = f"dispersion must be a number not below 0, got {dispersion}"
        raise ArgumentError(msg)
    return dispersion


def _checked(sales: ArrayLike, in_stock: ArrayLike) -> tuple[Steps, Mask]:
    sold, seen = np.asarray(sales, dtype=np.float64), np.asarray(in_stock)
    if sold.ndim != 2 or seen.shape != sold.shape or not sold.size:
        msg = f"sales and in_stock must both have shape [series, time], got {sold.shape} and {seen.shape}"
        raise ArgumentError(msg)
    if seen.dtype != np.bool_:
        msg = f"in_stock must be truth values, got {seen.dtype}"
        raise ArgumentError(msg)
    wrong = np.argwhere(~(np.isfinite(sold) & (sold >= 0)))
    if len(wrong):
        row, step = (int(x) for x in wrong[0])
        msg = f"sales must be finite and not negative, got {sold[row, step]:g} for series {row} in step {step}"
        raise ArgumentError(msg)
    return sold, seen
