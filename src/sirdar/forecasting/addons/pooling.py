# SPDX-License-Identifier: Apache-2.0
"""Partial pooling: log-linear regressions of many series whose coefficients share a prior that the data choose.

The model of series i in category g:

    E[y_it] = exp(z_t' c_i + x_it' b_i),  Var[y_it] = s_i (mu + phi_i mu^2)
    b_i ~ N(m_g, diag t^2),  m_g ~ N(m, diag u^2),  m ~ N(0, 3^2)

with free base levels c_i. Penalised quasi-likelihood (Breslow & Clayton 1993, eqs. 4-6) alternates between weighted
least squares on each series and the moments of the prior (Laplace EM). A series whose price never moved, or moved
thrice, so gets what its category says, a category what all say, each by its evidence.

Residuals resemble those before them, and so do prices that stay for weeks: standard errors of a variable are therefore
sqrt((1 + r q) / (1 - r q)) times those of independent steps, with r and q the lag-one correlations of residuals and of
the variable. Where levels wander far they still are somewhat small.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int64

_TOP = 3.0  # spread of the prior of the mean of all: wide for an elasticity, but proper
_USUAL = 0.3  # spread of elasticities among alike products, before anything is seen
_CHUNK = 2_000_000  # numbers in a design matrix at once
_STEP = 2.0  # most that a step may move a log mean
_PRIOR_COUNT = 4.0  # observations that the pooled dispersion counts for

Design = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Pooled:
    """Coefficients at three levels, each with its standard error (or posterior deviation).

    Args:
        own: of each series.
        group: of each category.
        top: of all, shape [1, variable].
        within: spread of series about their category, of each variable.
        between: spread of categories about all.
    """

    own: Float64[np.ndarray, "series variable"]
    own_error: Float64[np.ndarray, "series variable"]
    group: Float64[np.ndarray, "category variable"]
    group_error: Float64[np.ndarray, "category variable"]
    top: Float64[np.ndarray, "1 variable"]
    top_error: Float64[np.ndarray, "1 variable"]
    within: Float64[np.ndarray, " variable"]
    between: Float64[np.ndarray, " variable"]


@dataclass
class _Fits:
    """The running state of all series."""

    theta: np.ndarray  # [series, control + variable]
    overdispersion: np.ndarray  # phi, [series]
    dispersion: np.ndarray  # s, [series]
    information: np.ndarray  # of the variables, controls profiled out, [series, variable, variable]
    pull: np.ndarray  # information times the unpenalised estimate, [series, variable]


def fit_pooled(
    demand: Float64[np.ndarray, "series time"],
    design: Design,
    counts: tuple[int, int],
    group: Int64[np.ndarray, " series"],
    *,
    rounds: int = 30,
    sample: int = 2000,
) -> Pooled:
    """Estimates all coefficients.

    Args:
        demand: NaN where not observed; not negative.
        design: for row numbers, their controls and variables: [row, time, control + variable].
        counts: how many controls, how many variables.
        group: category of each series, 0 ... without gaps.
        rounds: of the estimation of the prior.
        sample: series from which the prior is estimated; the others take it as given.
    """
    series, variables = len(demand), counts[1]
    groups = int(group.max()) + 1 if series else 1
    fits = _start(demand, counts)
    prior = _Prior(np.zeros((groups, variables)), np.zeros((1, variables)), np.ones(variables), np.ones(variables))
    rows = np.arange(series)
    if series > sample:
        rows = np.sort(np.random.default_rng(0).choice(series, sample, replace=False))
    for _ in range(rounds):
        _improve(fits, rows, demand, design, prior.group[group], prior.within)
        prior = _moments(fits, rows, group, prior)
    if series > len(rows):
        for _ in range(8):
            _improve(fits, np.arange(series), demand, design, prior.group[group], prior.within)
        for _ in range(3):
            prior = _moments(fits, np.arange(series), group, prior)
    return _answer(fits, group, prior, _widening(fits, rows, demand, design, variables))


@dataclass(frozen=True)
class _Prior:
    group: np.ndarray
    top: np.ndarray
    within: np.ndarray
    between: np.ndarray
    group_variance: np.ndarray | None = None
    top_variance: np.ndarray | None = None


def _start(demand: np.ndarray, counts: tuple[int, int]) -> _Fits:
    series, (controls, variables) = len(demand), counts
    known = np.isfinite(demand)
    mean = np.where(known, demand, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    theta = np.zeros((series, controls + variables))
    # Hats add up to one, so a constant is the same weight on all of them.
    theta[:, :controls] = np.log(np.maximum(mean, 1e-6))[:, None]
    empty = np.zeros((series, variables, variables))
    return _Fits(theta, np.ones(series), np.ones(series), empty, np.zeros((series, variables)))


def _chunks(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    step = max(1, _CHUNK // max(size, 1))
    for begin in range(0, len(rows), step):
        yield rows[begin : begin + step]


def _improve(
    fits: _Fits, rows: np.ndarray, demand: np.ndarray, design: Design, centre: np.ndarray, within: np.ndarray
) -> None:
    """One step of penalised weighted least squares on the series of `rows`."""
    pearson, freedom = np.zeros(len(demand)), np.zeros(len(demand))
    variables = len(within)
    controls = fits.theta.shape[1] - variables
    for part in _chunks(rows, demand.shape[1] * fits.theta.shape[1]):
        matrix, y = design(part), demand[part]
        known = np.isfinite(y)
        y = np.where(known, y, 0)
        eta = np.clip(np.einsum("itk,ik->it", matrix, fits.theta[part]), -20, 30)
        mu = np.exp(eta)
        phi = fits.overdispersion[part][:, None]
        weight = np.where(known, mu / (1 + phi * mu), 0)
        residual = np.where(known, _residual(y, mu, phi), 0)
        spread = weight / fits.dispersion[part][:, None]
        weighted = (matrix * spread[..., None]).transpose(0, 2, 1)
        gram = weighted @ matrix
        score = (weighted @ (residual + eta)[..., None])[..., 0]
        theta, information, pull = _solve(gram, score, centre[part], within, controls)
        change = theta - fits.theta[part]
        largest = np.abs(np.where(known, np.einsum("itk,ik->it", matrix, change), 0)).max(axis=1, initial=0)
        fits.theta[part] += change * np.minimum(1, _STEP / np.maximum(largest, 1e-9))[:, None]
        fits.information[part], fits.pull[part] = information, pull
        pearson[part] = (weight * residual**2).sum(axis=1)
        freedom[part] = np.maximum(known.sum(axis=1) - controls - 1, 0)
        excess = np.where(known, np.clip(residual, -1, 3) ** 2 * mu**2 - mu, 0).sum(axis=1)
        square = np.where(known, mu**2, 0).sum(axis=1)
        fits.overdispersion[part] = np.clip(excess / np.maximum(square, 1e-12), 1e-4, 5)
    pooled = pearson[rows].sum() / max(freedom[rows].sum(), 1)
    fits.dispersion[rows] = np.clip(
        (pearson[rows] + _PRIOR_COUNT * pooled) / (freedom[rows] + _PRIOR_COUNT), 1e-6, None
    )


def _widening(
    fits: _Fits, rows: np.ndarray, demand: np.ndarray, design: Design, variables: int
) -> Float64[np.ndarray, " variable"]:
    """How many times larger errors of each variable are than if the steps of a series were independent; at least 1."""
    sums = np.zeros((3, 1 + variables))  # of products of neighbours, and of the squares of either
    for part in _chunks(rows, demand.shape[1] * fits.theta.shape[1]):
        matrix, known = design(part), np.isfinite(demand[part])[..., None]
        mu = np.exp(np.clip(np.einsum("itk,ik->it", matrix, fits.theta[part]), -20, 30))
        phi = fits.overdispersion[part][:, None]
        residual = _residual(np.nan_to_num(demand[part]), mu, phi) * np.sqrt(mu / (1 + phi * mu))
        values = np.concatenate([residual[..., None], matrix[..., -variables:]], axis=2) * known
        values -= known * (values.sum(axis=1) / np.maximum(known.sum(axis=1), 1))[:, None]
        both = known[:, 1:] & known[:, :-1]
        after, before = values[:, 1:] * both, values[:, :-1] * both
        sums += [(one * other).sum(axis=(0, 1)) for one, other in ((after, before), (after, after), (before, before))]
    alike = sums[0] / np.maximum(np.sqrt(sums[1] * sums[2]), 1e-12)
    product = np.clip(alike[0] * alike[1:], 0, 0.95)
    return np.sqrt((1 + product) / (1 - product))


def _residual(y: np.ndarray, mu: np.ndarray, phi: np.ndarray) -> np.ndarray:
    """Working residuals: (y - mu) / mu of slow sellers, log(y / mu) of fast ones, after the variance 1/mu + phi.

    A promotion that sells eightfold must not weigh eightfold; zeros must not be infinite.
    """
    a = 1 / phi
    return (1 + a / mu) * np.log((y + a) / (mu + a))


def _solve(
    gram: np.ndarray, score: np.ndarray, centre: np.ndarray, within: np.ndarray, controls: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Penalised estimates; and what the data alone say of the variables, the controls profiled out."""
    base = gram[:, :controls, :controls].copy()
    # Hats that were never observed lean on their neighbours.
    stiffness = 1e-3 * np.einsum("ikk->i", base)[:, None, None] / controls + 1e-9
    base += stiffness * _differences(controls)
    cross = gram[:, :controls, controls:]
    inverse = np.linalg.inv(base)
    through = np.einsum("ikv,ikl->ivl", cross, inverse)
    information = gram[:, controls:, controls:] - through @ cross
    information = (information + information.transpose(0, 2, 1)) / 2
    pull = score[:, controls:] - np.einsum("ivl,il->iv", through, score[:, :controls])
    precision = np.diag(1 / within**2)
    own = np.linalg.solve(information + precision, (pull + centre / within**2)[..., None])[..., 0]
    rest = score[:, :controls] - np.einsum("ikv,iv->ik", cross, own)
    level = np.einsum("ikl,il->ik", inverse, rest)
    return np.concatenate([level, own], axis=1), information, pull


def _differences(count: int) -> np.ndarray:
    first = np.diff(np.eye(count), axis=0)
    return first.T @ first + 1e-6 * np.eye(count)


def _moments(fits: _Fits, rows: np.ndarray, group: np.ndarray, prior: _Prior) -> _Prior:
    """The prior that explains the estimates: categories first, then what they share, then both spreads."""
    information, pull, member = fits.information[rows], fits.pull[rows], group[rows]
    groups, variables = prior.group.shape
    # Precision with which each series tells the category's mean: (A^-1 + T)^-1 = A (I + T A)^-1.
    shrink = np.linalg.inv(np.eye(variables) + (prior.within**2)[:, None] * information)
    precision = np.zeros((groups, variables, variables))
    weighted = np.zeros((groups, variables))
    np.add.at(precision, member, information @ shrink)
    np.add.at(weighted, member, np.einsum("ivw,iv->iw", shrink, pull))
    outer = np.diag(1 / prior.between**2)
    group_variance = np.linalg.inv(precision + outer)
    mean = np.einsum("gvw,gw->gv", group_variance, weighted + prior.top / prior.between**2)
    # The mean of all, categories integrated out.
    loose = np.linalg.inv(np.eye(variables) + (prior.between**2)[:, None] * precision)
    top_variance = np.linalg.inv((precision @ loose).sum(axis=0) + np.eye(variables) / _TOP**2)
    top = (top_variance @ np.einsum("gvw,gv->w", loose, weighted))[None]
    posterior = np.linalg.inv(information + np.diag(1 / prior.within**2))
    own = np.einsum("ivw,iw->iv", posterior, pull + mean[member] / prior.within**2)
    within = (own - mean[member]) ** 2 + np.einsum("ivv->iv", posterior)
    between = (mean - top) ** 2 + np.einsum("gvv->gv", group_variance)
    # Two pseudo-observations of a usual spread keep it off zero, from where EM does not return; the categories' means
    # were fitted to the same series, which costs degrees of freedom.
    free = max(len(rows) - groups, 1)
    spread = np.sqrt((within.sum(axis=0) + 2 * _USUAL**2) / (free + 2))
    apart = np.sqrt((between.sum(axis=0) + 2 * _USUAL**2) / (groups + 1)) if groups > 1 else np.full(variables, 1e-3)
    return replace(
        prior, group=mean, top=top, within=spread, between=apart, group_variance=group_variance,
        top_variance=top_variance,
    )  # fmt: skip


def _answer(fits: _Fits, group: np.ndarray, prior: _Prior, wider: np.ndarray) -> Pooled:
    """Coefficients with errors; that of a series includes that of its category's mean."""
    variables = len(prior.within)
    posterior = np.linalg.inv(fits.information + np.diag(1 / prior.within**2))
    own = np.einsum("ivw,iw->iv", posterior, fits.pull + prior.group[group] / prior.within**2)
    zero = np.zeros((variables, variables))
    top = zero if prior.top_variance is None else prior.top_variance
    of_group = np.zeros((len(prior.group), variables, variables))
    if prior.group_variance is not None:
        weight = prior.group_variance / prior.between**2  # of the mean of all in each category's
        of_group = prior.group_variance + weight @ top @ weight.transpose(0, 2, 1)
    weight = posterior / prior.within**2
    of_own = posterior + weight @ of_group[group] @ weight.transpose(0, 2, 1)
    errors = [wider * _root(variance) for variance in (of_own, of_group, top[None])]
    return Pooled(own, errors[0], prior.group, errors[1], prior.top, errors[2], prior.within, prior.between)


def _root(variance: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(np.einsum("ivv->iv", variance), 0))
