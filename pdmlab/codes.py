"""What a number that a board prints means, and what to do about it.

>>> explain(-5005).name
'SD_BLOCK_DEVICE_ERROR_NO_DEVICE'

The tables lie with what they are about, as `codes.toml` in the topic's folder: a row has `means` and `do`, and
either is keyed by its name and has a `code`, or is keyed by its code and may have a `name`. `family` says whose
number it is, since some numbers have several owners.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from typing import overload

from pdmlab.errors import ConfigError

# Topic -> file, and the family of rows that do not name their own.
_TABLES = (
    ("storage", "codes.toml", "storage"),
    ("network", "codes.toml", "network (NSAPI)"),
    ("coap", "codes.toml", "CoAP response"),
    ("client", "codes.toml", "client"),
    ("update", "results.toml", "firmware update result (/10252/0/3)"),
)


@dataclass(frozen=True)
class Code:
    """One reading of a number."""

    code: str
    """As it is printed: a number, or a CoAP code such as 4.04."""
    name: str
    family: str
    meaning: str
    advice: str

    def __repr__(self) -> str:
        return f"{self.name} ({self.code}, {self.family}): {self.meaning}\n  do: {self.advice}"


class Explanation(tuple[Code, ...]):
    """What a number may mean: `name`, `family`, `meaning` and `advice` are those of the likeliest reading."""

    @property
    def code(self) -> str:
        """The number, as it is printed."""
        return self[0].code

    @property
    def name(self) -> str:
        """The name in Mbed's headers."""
        return self[0].name

    @property
    def family(self) -> str:
        """Whose number it is."""
        return self[0].family

    @property
    def meaning(self) -> str:
        """What happened."""
        return self[0].meaning

    @property
    def advice(self) -> str:
        """What to do about it."""
        return self[0].advice

    def __repr__(self) -> str:
        return "\nor ".join(map(repr, self))

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{title}</th>" for title in ("code", "name", "of", "means", "do"))
        rows = "".join(
            "<tr style='text-align:left'>"
            + "".join(f"<td>{escape(text)}</td>" for text in (row.code, row.name, row.family, row.meaning, row.advice))
            + "</tr>"
            for row in self
        )
        return f"<table><tr>{head}</tr>{rows}</table>"


@overload
def explain(code: BaseException) -> Explanation: ...
@overload
def explain(code: int | str, family: str | None = None) -> Explanation: ...
def explain(code: int | str | BaseException, family: str | None = None) -> Explanation:
    """Explain a number, a name, a CoAP code such as "4.04", or an error that carries one.

    A number may be written as Mbed's crash reports have it, "0x80FF0107".

    family: whose number it is, in part or whole ("SD", "errno"); None for everybody's, the likeliest first.

    Raises:
        ConfigError: no table has it.
    """
    text = ""
    if isinstance(code, BaseException):
        text = str(code)
        carried = getattr(code, "code", None) or getattr(code, "result", None)
        if carried is None:
            raise ConfigError(f"a {type(code).__name__} carries no number", hint="its own message and hint say it all")
        code = carried.split()[0] if isinstance(carried, str) else int(carried)  # "4.04 Not Found"
    wanted = _signed(str(code).strip())
    found = [row for row in table() if wanted == row.code or wanted.upper() == row.name.upper()]
    if family is not None:
        found = [row for row in found if family.lower() in row.family.lower()]
    if not found:
        of = f" of family {family!r}" if family is not None else ""
        raise ConfigError(f"no table has the code {wanted!r}{of}", hint=f"families: {', '.join(families())}")
    # An error's own message names the reading that is meant.
    return Explanation(sorted(found, key=lambda row: f"({row.name}," not in text))


def _signed(text: str) -> str:
    """Return a status of 32 bits in hex as the signed number that it is in C."""
    if re.fullmatch(r"0[xX][0-9a-fA-F]{8}", text):
        return str(int.from_bytes(bytes.fromhex(text[2:]), "big", signed=True))
    return text


@cache
def table() -> tuple[Code, ...]:
    """Return every row, in the order in which readings are offered."""
    rows: list[Code] = []
    for topic, name, default in _TABLES:
        file = files("pdmlab") / topic / name
        if not file.is_file():
            continue
        for key, row in tomllib.loads(file.read_text(encoding="utf-8")).items():
            code = str(row.get("code", key))
            rows.append(
                Code(
                    code,
                    row.get("name", key if "code" in row else f"result {code}"),
                    row.get("family", default),
                    row.get("means") or row["meaning"],
                    row.get("do") or row["advice"],
                )
            )
    return tuple(rows)


def families() -> list[str]:
    """Return whose numbers there are."""
    return list(dict.fromkeys(row.family for row in table()))
