"""Least squares that says what it cannot tell: which unknowns the rows determine, how well, and which only together.

The model may be a little crooked (ticks, whole bytes): it is straightened around the last guess, again and again
(Gauss-Newton). Rows that stand out count less (Huber), since a card may have stalled in one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Vector: TypeAlias = "NDArray[np.float64]"
Values: TypeAlias = Mapping[str, float]

STEP = 0.1
"""By which share an unknown is changed to see what hangs on it."""
ALIKE = 0.2
"""Share of an unknown's effect that no others have, below which they have the same."""
ROUNDS = 12
CLOSE = 2e-4
"""Relative change of the unknowns at which the search ends."""
HUBER = 2.0
"""Standard deviations from which a row counts less."""
_LEAST_SCATTER = 0.1  # of what sigma says: rows that agree by chance do not outweigh all others
_T = (
    12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13,
    2.12, 2.11, 2.10, 2.09, 2.09, 2.08, 2.07, 2.07, 2.06, 2.06, 2.06, 2.05, 2.05, 2.05, 2.04,
)  # fmt: skip
"""Student's t for 95 %, by degrees of freedom from 1."""


@dataclass(frozen=True)
class Problem:
    """What is to be fitted to what.

    model: unknowns by name -> what each row would be. sigma: the standard deviation of each row, as far as it is
    known. groups: which rows may be taken to scatter alike; their residuals correct their sigma. start: where to begin.
    least: what an unknown cannot be below. grain: changes that the model may not show, since it goes in steps.
    """

    model: Callable[[Values], Vector]
    measured: Vector
    sigma: Vector
    groups: Sequence[str]
    start: Values
    least: Values
    grain: Values

    def residuals(self, values: Values) -> Vector:
        """Return how far the rows are from the model, in their standard deviations."""
        return (self.measured - self.model(values)) / self.sigma

    def slopes(self, values: Values, names: Sequence[str]) -> dict[str, Vector]:
        """Return how each row changes with each unknown, in its standard deviations."""
        here = self.model(values)
        found = {}
        for name in names:
            step = max(abs(values[name]) * STEP, 4 * self.grain[name])
            found[name] = (self.model({**values, name: values[name] + step}) - here) / step / self.sigma
        return found

    def scatter(self, residuals: Vector) -> Vector:
        """Return the standard deviation that most residuals of each row's group have."""
        found = np.ones(len(residuals))
        for group in set(self.groups):
            its = np.array([name == group for name in self.groups])
            found[its] = max(1.4826 * float(np.median(np.abs(residuals[its]))), _LEAST_SCATTER)
        return found

    def size(self, values: Values) -> dict[str, float]:
        """Return what change of an unknown is a large one."""
        return {name: max(values[name], self.start[name], 1.0) for name in self.start}


@dataclass(frozen=True)
class Fit:
    """What came of it. values: every unknown, fitted or left as it was. half_width: of the 95 % interval of the fitted.

    why: of those that were not fitted. leverage: how much each row draws the fit towards itself, 0 to 1.
    """

    values: dict[str, float]
    half_width: dict[str, float]
    why: dict[str, str]
    leverage: Vector


def fit(problem: Problem) -> Fit:
    """Find the unknowns with which the model comes closest to what was measured.

    All are tried at first. Then the least of those that the rows do not tell goes back to where it began, and the
    others are fitted again, until the rows tell all that are left.
    """
    start, count = problem.start, len(problem.measured)
    slopes = problem.slopes(start, list(start))
    active = [name for name in start if float(np.linalg.norm(slopes[name])) * max(start[name], 1.0) > 1e-9]
    why = dict.fromkeys((name for name in start if name not in active), "the rows do not change with it")
    values = dict(start)
    while True:
        values = {name: value if name in active else start[name] for name, value in values.items()}
        for _ in range(ROUNDS if active else 0):
            values, moved = _improve(problem, values, active)
            if moved < CLOSE:
                break
        slopes, size = problem.slopes(values, active), problem.size(values)
        half, leverage = _uncertainty(problem, slopes, problem.residuals(values), size)
        half = {name: _reach(problem, values, name, half[name], size[name]) for name in active}
        unsure = [name for name in active if half[name] >= size[name]]  # it might as well be nothing, or twice as much
        crowded = len(active) >= count
        if not unsure and not crowded:
            return Fit(_polish(problem, values, active), half, why, leverage)
        weight = {name: float(np.linalg.norm(slopes[name])) * size[name] for name in active}
        drop = min(unsure or active, key=lambda name: weight[name])
        active = [name for name in active if name != drop]
        why[drop] = (
            f"{count} rows determine {count - 1} figures at most, with one left to check them by"
            if crowded
            else _reason(slopes, drop, active)
        )


def _reason(slopes: Mapping[str, Vector], name: str, others: Sequence[str]) -> str:
    """Return why an unknown cannot be told: for want of effect, or because others have the same."""
    if others:
        matrix = np.stack([slopes[other] for other in others], axis=1)
        shares = np.linalg.lstsq(matrix, slopes[name], rcond=None)[0]
        left = float(np.linalg.norm(slopes[name] - matrix @ shares)) / float(np.linalg.norm(slopes[name]))
        if left < ALIKE:
            made = {o: abs(share) * float(np.linalg.norm(slopes[o])) for o, share in zip(others, shares, strict=True)}
            partners = [other for other, part in made.items() if part > 0.2 * max(made.values())]
            return f"these rows tell it and {', '.join(partners)} only together"
    return "the rows hardly change with it"


def _improve(problem: Problem, values: dict[str, float], active: Sequence[str]) -> tuple[dict[str, float], float]:
    """Take one step, halved until it is one for the better; return the values and by what share they moved."""
    least = problem.least
    residuals = problem.residuals(values)
    scatter = problem.scatter(residuals)
    weights = _weights(residuals / scatter) / scatter
    slopes = problem.slopes(values, active)
    free = list(active)
    while True:  # unknowns that would go below their least stay there, and the others make up for it
        scale = np.array([max(abs(values[name]), 1.0) for name in free])
        matrix = np.stack([slopes[name] for name in free], axis=1) * weights[:, None] * scale
        shares = np.linalg.lstsq(matrix, residuals * weights, rcond=1e-6)[0]
        steps = dict(zip(free, shares * scale, strict=True))
        below = [n for n in free if values[n] + steps[n] < least[n] and values[n] <= least[n]]
        if not below or len(below) == len(free):
            break
        free = [name for name in free if name not in below]
    cost = _cost(residuals / scatter)
    for half in range(6):
        taken = {name: max(values[name] + float(step) / 2**half, least[name]) for name, step in steps.items()}
        moved = max(abs(taken[name] - values[name]) / max(abs(values[name]), 1.0) for name in taken)
        guess = {**values, **taken}
        if moved < CLOSE or _cost(problem.residuals(guess) / scatter) <= cost:
            return guess, moved
    return values, 0.0


def _polish(problem: Problem, values: dict[str, float], active: Sequence[str]) -> dict[str, float]:
    """Try values around the best, a grain away and less: a model that goes in steps has small hollows beside it."""
    scatter = problem.scatter(problem.residuals(values))
    best = _cost(problem.residuals(values) / scatter)
    for share in (1.0, 0.5, 0.25, 0.125):
        for name in active:
            for sign in (1, -1):
                guess = {**values, name: max(values[name] + sign * share * problem.grain[name], problem.least[name])}
                cost = _cost(problem.residuals(guess) / scatter)
                if cost < best:
                    values, best = guess, cost
    return values


def _weights(residuals: Vector) -> Vector:
    """Return the roots of the rows' weights: 1 for most, less for those that stand out."""
    return np.sqrt(1 / np.maximum(np.abs(residuals) / HUBER, 1.0))


def _cost(residuals: Vector) -> float:
    """Return Huber's sum: squares for most, and no more than in proportion for those that stand out."""
    far = np.abs(residuals)
    return float(np.sum(np.where(far < HUBER, far**2 / 2, HUBER * far - HUBER**2 / 2)))


def _uncertainty(
    problem: Problem, slopes: Mapping[str, Vector], residuals: Vector, size: Values
) -> tuple[dict[str, float], Vector]:
    """Return half of the 95 % interval of each fitted unknown, and each row's leverage."""
    count = len(residuals)
    if not slopes:
        return {}, np.zeros(count)
    scatter = problem.scatter(residuals)
    weights = _weights(residuals / scatter) / scatter
    scale = np.array([size[name] for name in slopes])
    matrix = np.stack(list(slopes.values()), axis=1) * weights[:, None] * scale
    inverse = np.linalg.pinv(matrix.T @ matrix + 1e-12 * np.eye(len(slopes)), hermitian=True)
    pulls = (inverse @ matrix.T) ** 2  # how much of each row's variance goes into that of each unknown
    leverage = np.clip(np.einsum("ij,jk,ik->i", matrix, inverse, matrix), 0.0, 1.0)
    variance, free = np.zeros(count), np.ones(count)
    for group in set(problem.groups):
        its = np.array([name == group for name in problem.groups])
        left = max(float(np.sum(1 - leverage[its])), 1.0)
        variance[its] = float(np.sum((residuals[its] * weights[its]) ** 2)) / left
        free[its] = left
    half = {}
    for place, name in enumerate(slopes):
        parts = pulls[place] * variance
        total = float(np.sum(parts))
        degrees = float(np.sum(parts * free)) / total if total > 0 else 1.0
        half[name] = _t(degrees) * float(scale[place]) * float(np.sqrt(total))
    return half, leverage


def _t(degrees: float) -> float:
    return _T[int(np.clip(degrees, 1, len(_T))) - 1]


def _reach(problem: Problem, values: Values, name: str, half: float, size: float) -> float:
    """Return how far an unknown can go before the rows say no, from half its interval up to its whole size.

    A model that goes in steps may not change at all for a while.
    """
    scatter = problem.scatter(problem.residuals(values))
    best = _cost(problem.residuals(values) / scatter)
    half = reach = max(half, problem.grain[name] / 16)
    for sign in (1, -1):
        far = half
        while far < size and values[name] + sign * far > problem.least[name]:
            if _cost(problem.residuals({**values, name: values[name] + sign * far}) / scatter) > best + 0.5:
                break
            far *= 2
        reach = max(reach, far)
    return reach
