"""Least squares that says what it cannot tell: which unknowns the rows determine, how well, and which only together.

The model may be a little crooked (ticks, whole bytes): it is straightened around the last guess, again and again
(Gauss-Newton). Rows that stand out count less, since a card may have stalled in one of them: least absolute
deviations, which a few such rows do not draw, come first and say how far rows scatter; Huber's squares come then.
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
"""Share of an unknown's effect that no others have, below which they are named where it cannot be told."""
SAME = 0.03
"""The same share below which it cannot be told, however exact the rows: so much is the model's own steps."""
TOLD = 4.0
"""Standard deviations of the rows by which a large change of an unknown has to move them, to be told by exact rows."""
ROUNDS = 12
CLOSE = 2e-4
"""Relative change of the unknowns at which the search ends."""
HUBER = 2.0
"""Standard deviations from which a row counts less."""
ABSOLUTE = 0.5
"""The same for what are absolute deviations nearly, however far the rows scatter."""
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
            few = 1 + 5 / max(int(np.sum(its)) - 1, 1)  # Rousseeuw's: the fit has drawn a few rows close to itself
            found[its] = max(1.4826 * few * float(np.median(np.abs(residuals[its]))), _LEAST_SCATTER)
        return found

    def apart(self, values: Values) -> float:
        """Return how far half of the rows are from the model, or farther (%)."""
        return 100 * float(np.median(np.abs(self.measured - self.model(values)) / np.abs(self.measured)))

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
        scatter = np.ones(count)
        for edge in (ABSOLUTE, HUBER):
            if edge == HUBER:
                scatter = problem.scatter(problem.residuals(values))
            for _ in range(ROUNDS if active else 0):
                values, moved = _improve(problem, values, active, scatter, edge)
                if moved < CLOSE:
                    break
        slopes, size = problem.slopes(values, active), problem.size(values)
        half, leverage = _uncertainty(problem, slopes, problem.residuals(values), size, scatter)
        half = {name: _reach(problem, values, name, half[name], size[name], scatter) for name in active}
        unsure = [  # it might as well be nothing, or twice as much; or it is what others are
            name for name in active if half[name] >= size[name] or _apart(slopes, name)[0] < SAME
        ]
        crowded = len(active) >= count
        if not unsure and not crowded:
            return Fit(_polish(problem, values, active, scatter), half, why, leverage)
        weight = {name: float(np.linalg.norm(slopes[name])) * size[name] for name in active}
        drop = min(unsure or active, key=lambda name: weight[name])
        left, partners = _apart(slopes, drop)
        active = [name for name in active if name != drop]
        why[drop] = (
            f"{count} rows determine {count - 1} figures at most, with one left to check them by"
            if crowded
            else f"these rows tell it and {', '.join(partners)} only together"
            if left < ALIKE
            else f"the rows disagree, with each other or with the model, by some {problem.apart(values):.0f} %"
            if weight[drop] * left > TOLD
            else "the rows hardly change with it"
        )


def _apart(slopes: Mapping[str, Vector], name: str) -> tuple[float, list[str]]:
    """Return the share of an unknown's effect that no others have, and which of them have the rest."""
    others = [other for other in slopes if other != name]
    whole = float(np.linalg.norm(slopes[name]))
    if not others or whole == 0:
        return 1.0, []
    matrix = np.stack([slopes[other] for other in others], axis=1)
    sizes = np.linalg.norm(matrix, axis=0)
    shares = np.linalg.lstsq(matrix / np.maximum(sizes, 1e-300), slopes[name], rcond=1e-9)[0]
    left = slopes[name] - matrix @ (shares / np.maximum(sizes, 1e-300))
    most = float(np.max(np.abs(shares)))
    partners = [other for other, share in zip(others, shares, strict=True) if abs(share) > 0.2 * most]
    return float(np.linalg.norm(left)) / whole, partners


def _improve(
    problem: Problem, values: dict[str, float], active: Sequence[str], scatter: Vector, edge: float
) -> tuple[dict[str, float], float]:
    """Take one step, halved until it is one for the better; return the values and by what share they moved."""
    least = problem.least
    residuals = problem.residuals(values)
    weights = _weights(residuals / scatter, edge) / scatter
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
    cost = _cost(residuals / scatter, edge)
    for half in range(6):
        taken = {name: max(values[name] + float(step) / 2**half, least[name]) for name, step in steps.items()}
        moved = max(abs(taken[name] - values[name]) / max(abs(values[name]), 1.0) for name in taken)
        guess = {**values, **taken}
        if moved < CLOSE or _cost(problem.residuals(guess) / scatter, edge) <= cost:
            return guess, moved
    return values, 0.0


def _polish(problem: Problem, values: dict[str, float], active: Sequence[str], scatter: Vector) -> dict[str, float]:
    """Try values around the best, a grain away and less: a model that goes in steps has small hollows beside it."""
    best = _cost(problem.residuals(values) / scatter)
    for share in (1.0, 0.5, 0.25, 0.125):
        for name in active:
            for sign in (1, -1):
                guess = {**values, name: max(values[name] + sign * share * problem.grain[name], problem.least[name])}
                cost = _cost(problem.residuals(guess) / scatter)
                if cost < best:
                    values, best = guess, cost
    return values


def _weights(residuals: Vector, edge: float = HUBER) -> Vector:
    """Return the roots of the rows' weights: 1 up to an edge, less beyond it."""
    return np.sqrt(1 / np.maximum(np.abs(residuals) / edge, 1.0))


def _cost(residuals: Vector, edge: float = HUBER) -> float:
    """Return Huber's sum: squares up to an edge, and in proportion beyond it."""
    far = np.abs(residuals)
    return float(np.sum(np.where(far < edge, far**2 / 2, edge * far - edge**2 / 2)))


def _uncertainty(
    problem: Problem, slopes: Mapping[str, Vector], residuals: Vector, size: Values, scatter: Vector
) -> tuple[dict[str, float], Vector]:
    """Return half of the 95 % interval of each fitted unknown, and each row's leverage."""
    count = len(residuals)
    if not slopes:
        return {}, np.zeros(count)
    robust = _weights(residuals / scatter)
    weights = robust / scatter
    scale = np.array([size[name] for name in slopes])
    matrix = np.stack(list(slopes.values()), axis=1) * weights[:, None] * scale
    normal = matrix.T @ matrix
    inverse = np.linalg.inv(normal + 1e-10 * float(np.max(np.diag(normal))) * np.eye(len(slopes)))
    pulls = (inverse @ matrix.T) ** 2  # how much of each row's variance goes into that of each unknown
    leverage = np.clip(np.einsum("ij,jk,ik->i", matrix, inverse, matrix), 0.0, 1.0)
    variance, free = np.zeros(count), np.ones(count)
    for group in set(problem.groups):
        its = np.array([name == group for name in problem.groups])
        left = max(float(np.sum((robust[its] == 1) * (1 - leverage[its]))), 0.5)  # those that stand out tell nothing
        variance[its] = float(np.sum((residuals[its] * robust[its] ** 2) ** 2)) / left * weights[its] ** 2
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


def _reach(problem: Problem, values: Values, name: str, half: float, size: float, scatter: Vector) -> float:
    """Return how far an unknown can go before the rows say no, from half its interval up to its whole size.

    A model that goes in steps may not change at all for a while.
    """
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
