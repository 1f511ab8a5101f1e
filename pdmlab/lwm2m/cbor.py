"""CBOR (RFC 8949) for input that may be hostile: walked through before cbor2 builds anything of it."""

from __future__ import annotations

import math
from decimal import Decimal

import cbor2

from pdmlab.errors import Lwm2mError

MAX_DEPTH = 4  # SenML: an array of maps, of which one value may be a decimal fraction (tag 4)
MAX_ITEMS = 100_000
"""Items of all kinds in one payload: ten for each of the records that SenML is allowed."""
MAX_KEYS = 32  # of one map: a record has eight, and many of one hash would take long
_DECIMAL_FRACTION = 4
_BREAK = 0xFF
_BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(2, 8)


def loads(data: bytes) -> object:
    """Return what one CBOR item means; a decimal fraction as a float.

    Raises:
        Lwm2mError: it does not end, is too deep, goes on behind its end, or has what SenML has no use for: other tags
            (big numbers among them), keys twice, or numbers that are not finite.
    """
    walk = _Walk(data)
    try:
        end = walk.item(0, MAX_DEPTH)
    except IndexError:
        raise Lwm2mError(f"CBOR: {len(data)} B, and the item in them does not end") from None
    if end != len(data):
        raise Lwm2mError(f"CBOR: {len(data) - end} B behind the end of the item")
    try:
        item = cbor2.loads(data)
    except (cbor2.CBORDecodeError, ValueError, ArithmeticError, TypeError) as error:
        raise Lwm2mError(f"CBOR: {error}") from error
    keys, item = _checked(item)
    if keys != walk.keys:  # cbor2 keeps the last of two values of one key without a word
        raise Lwm2mError("CBOR: a key comes twice in one map")
    return item


def dumps(item: object) -> bytes:
    """Return an item's bytes, with lengths told in advance."""
    return cbor2.dumps(item)


def _checked(item: object) -> tuple[int, object]:
    """Return how many keys the item's maps have, and the item with numbers that are all int or finite float."""
    if isinstance(item, list):
        parts = [_checked(each) for each in item]
        return sum(keys for keys, _ in parts), [each for _, each in parts]
    if isinstance(item, dict):
        if not all(isinstance(key, int | str) for key in item):
            raise Lwm2mError("CBOR: a key is neither whole number nor text")
        inside = {key: _checked(each) for key, each in item.items()}
        return len(item) + sum(keys for keys, _ in inside.values()), {key: each for key, (_, each) in inside.items()}
    if isinstance(item, Decimal):
        item = float(item)  # not int(): 1E+999999 has a million digits
    if isinstance(item, float) and not math.isfinite(item):
        raise Lwm2mError(f"CBOR: {item} is no finite number")
    return 0, item


class _Walk:
    """A walk over the heads of items, which builds nothing."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left = MAX_ITEMS
        self.keys = 0

    def item(self, at: int, depth: int) -> int:
        """Return where the item ends that begins at a byte."""
        self._left -= 1
        if self._left < 0:
            raise Lwm2mError(f"CBOR: more than {MAX_ITEMS} items")
        major, number, at = self._head(at)
        if major in (_BYTES, _TEXT):
            return self._string(major, number, at)
        if major == _ARRAY:
            return self._items(number, at, depth)[0]
        if major == _MAP:
            return self._map(number, at, depth)
        if major == _TAG:
            if number != _DECIMAL_FRACTION or self._data[at] != 0x82:
                raise Lwm2mError(f"CBOR: tag {number} at byte {at - 1} is none that SenML has")
            exponent, _, at = self._head(at + 1)
            mantissa, _, at = self._head(at)
            if max(exponent, mantissa) > 1:
                raise Lwm2mError(f"CBOR: the decimal fraction before byte {at} is none of whole numbers")
            return at
        if major == _SIMPLE and number is None:
            raise Lwm2mError(f"CBOR: a break at byte {at - 1} that ends nothing")
        return at

    def _head(self, at: int) -> tuple[int, int | None, int]:
        """Return an item's major type, its number (None: indefinite), and what follows."""
        head = self._data[at]
        major, low = head >> 5, head & 31
        at += 1
        if low < 24:
            return major, low, at
        if low == 31 and major in (_BYTES, _TEXT, _ARRAY, _MAP, _SIMPLE):
            return major, None, at
        if low > 27:
            raise Lwm2mError(f"CBOR: {head:#04x} at byte {at - 1} begins nothing")
        width = 1 << low - 24
        if at + width > len(self._data):
            raise IndexError
        return major, int.from_bytes(self._data[at : at + width], "big"), at + width

    def _string(self, major: int, size: int | None, at: int) -> int:
        if size is not None:
            if at + size > len(self._data):
                raise IndexError
            return at + size
        while self._data[at] != _BREAK:
            kind, size, at = self._head(at)
            if kind != major or size is None or at + size > len(self._data):
                raise Lwm2mError(f"CBOR: the string in pieces at byte {at} does not go on")
            at += size
            self._left -= 1
            if self._left < 0:
                raise Lwm2mError(f"CBOR: more than {MAX_ITEMS} items")
        return at + 1

    def _items(self, count: int | None, at: int, depth: int) -> tuple[int, int]:
        """Return where an array or map ends, and how many items are in it."""
        if depth == 0:
            raise Lwm2mError(f"CBOR: nested more than {MAX_DEPTH} deep")
        done = 0
        while self._data[at] != _BREAK if count is None else done < count:
            at = self.item(at, depth - 1)
            done += 1
        return at + (count is None), done

    def _map(self, count: int | None, at: int, depth: int) -> int:
        at, done = self._items(None if count is None else 2 * count, at, depth)
        if done % 2 or done > 2 * MAX_KEYS:
            raise Lwm2mError(f"CBOR: a map of {done} items; {MAX_KEYS} keys with a value each at most")
        self.keys += done // 2
        return at
