"""What a factor may be: a name that there is not, or no number, ends a sweep; a number that cannot be, only its point.

The first is a slip of the keyboard, which must not thin a sweep out; the second is what a product of factors brings.
"""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any  # of values: whatever a sweep's cell holds

from pdmlab.errors import ConfigError, NotMeasurable


def require_name(what: str, value: Any, known: Iterable[str]) -> None:
    """Refuse a name that there is not.

    Raises:
        ConfigError: it is none of those known.
    """
    names = tuple(known)
    if value not in names:
        raise ConfigError(f"there is no {what} {value!r}", hint=f"one of {', '.join(names)}")


def whole(name: str, value: Any) -> int:
    """Return a whole number of 1 or more; 1e6 and a table's 64.0 are such.

    Raises:
        ConfigError: it is no whole number.
        NotMeasurable: it is 0 or less.
    """
    number = plain_whole(name, value)
    if number < 1:
        raise NotMeasurable(f"{name} is {number}", hint="1 or more")
    return number


def whole_or_none(name: str, value: Any) -> int | None:
    """Return the same of a factor that may be left to its default."""
    return None if value is None else whole(name, value)


def plain_whole(name: str, value: Any) -> int:
    """Return a whole number of any size.

    Raises:
        ConfigError: it is none.
    """
    whole_one = isinstance(value, Integral) or (isinstance(value, Real) and float(value).is_integer())
    if isinstance(value, bool) or not whole_one:
        raise ConfigError(f"{name} is {value!r}", hint="a whole number")
    return int(value)


def percent(name: str, value: Any) -> float:
    """Return a share of 0 to below 100 %.

    Raises:
        ConfigError: it is no number.
        NotMeasurable: it is no such share.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ConfigError(f"{name} is {value!r}", hint="a number: 0 to below 100")
    if not 0 <= float(value) < 100:
        raise NotMeasurable(f"{name} is {value!r}", hint="0 to below 100")
    return value  # type: ignore[return-value]  # what a cell holds of Real is an int or a float
