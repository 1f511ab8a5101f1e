"""Mbed's configuration expressions, such as "(MBED_CONF_APP_FLASH_START_ADDRESS + 64*1024)", as numbers.

An mbed_app.json hands them to the C compiler; here a few arithmetic nodes of Python's own parser are
walked, and nothing is ever executed. C's integer rules hold: `/` truncates towards zero.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping

from pdmlab.errors import ConfigError

Value = int | str
_SUFFIX = re.compile(r"\b(0[xX][0-9a-fA-F]+|[0-9]+)[uUlL]+\b")
_LIMIT = 1 << 64
_MAX_TEXT = 500
_DEEPEST = 64
"""Macros that say what another one is, one after the other."""


def _divide(left: int, right: int) -> int:
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def _shift_left(left: int, right: int) -> int:
    return left << right if 0 <= right < 64 else _LIMIT


_BINARY: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: _divide,
    ast.Mod: lambda left, right: left - right * _divide(left, right),
    ast.LShift: _shift_left,
    ast.RShift: operator.rshift,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
}


def macro_name(key: str) -> str:
    """Return the C macro that Mbed's configuration makes of a key: "a.b-c" -> MBED_CONF_A_B_C."""
    scoped = key if "." in key else f"app.{key}"
    return "MBED_CONF_" + re.sub(r"[^A-Za-z0-9]", "_", scoped).upper()


class Expressions:
    """Evaluate expressions over named symbols, whose values may be expressions themselves."""

    def __init__(self, symbols: Mapping[str, Value]) -> None:
        self._symbols = symbols
        self._values: dict[str, int] = {}  # of symbols that have been evaluated: each is once, however often it is said

    def value(self, expression: Value, *, of: str) -> int:
        """Return the number that expression stands for; `of` names the setting in a ConfigError."""
        return self._value(expression, of, ())

    def _value(self, expression: Value, of: str, above: tuple[str, ...]) -> int:
        if isinstance(expression, int):
            if not -_LIMIT < expression < _LIMIT:
                raise ConfigError(f"{of}: a number of {expression.bit_length()} bits does not fit in 64 bits")
            return int(expression)
        if len(expression) > _MAX_TEXT:
            raise ConfigError(f"{of}: an expression of {len(expression)} characters is no address")
        try:
            tree = ast.parse(_SUFFIX.sub(r"\1", expression.strip()), mode="eval").body
            return self._node(tree, of, above)
        except (SyntaxError, ValueError, RecursionError, MemoryError, ZeroDivisionError) as error:
            raise ConfigError(f"{of}: {expression!r} cannot be evaluated: {error}") from error

    def _node(self, node: ast.expr, of: str, above: tuple[str, ...]) -> int:
        match node:
            case ast.Constant(value=int(number)) if not isinstance(number, bool):
                result = number
            case ast.Name(id=name):
                result = self._symbol(name, of, above)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
                inner = self._node(operand, of, above)
                result = -inner if isinstance(sign, ast.USub) else inner
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                result = _BINARY[type(op)](self._node(left, of, above), self._node(right, of, above))
            case _:
                raise ConfigError(
                    f"{of}: {ast.unparse(node)!r} is not arithmetic on numbers and macros",
                    hint="use + - * / % << >> & |, numbers, and macros such as MBED_CONF_APP_FLASH_SIZE",
                )
        if not -_LIMIT < result < _LIMIT:
            raise ConfigError(f"{of}: {ast.unparse(node)!r} does not fit in 64 bits")
        return result

    def _symbol(self, name: str, of: str, above: tuple[str, ...]) -> int:
        if name in self._values:
            return self._values[name]
        if name in above:
            raise ConfigError(f"{of}: {' -> '.join((*above, name))} goes round in a circle")
        if name not in self._symbols:
            raise ConfigError(
                f"{of}: nothing says what {name} is", hint="set it in mbed_app.json, for this target or for *"
            )
        if len(above) == _DEEPEST:
            raise ConfigError(
                f"{of}: {above[0]} goes through more than {_DEEPEST} macros", hint="write a number instead"
            )
        self._values[name] = self._value(self._symbols[name], of, (*above, name))
        return self._values[name]
