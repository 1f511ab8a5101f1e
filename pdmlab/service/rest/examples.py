"""One example of each operation of the API: what to send so that it does something, and what comes back.

The rows are in examples.toml, in the order in which they work one after the other. /docs shows them, and a test sends
them to a service.
"""

from __future__ import annotations

import functools
import json
import re
import shlex
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any
from urllib.parse import quote

_NAME = re.compile(r"\{(\w+)\}")

Values = Mapping[str, str]


@dataclass(frozen=True)
class Example:
    """A call; `{name}` in any of its texts stands for what an earlier one kept under that name, or what is prepared."""

    method: str
    path: str
    """As the description has it, with the names of its parameters in braces."""
    values: Values = field(default_factory=dict)
    """Parameters of the path that are not simply what was kept under their name."""
    query: Values = field(default_factory=dict)
    headers: Values = field(default_factory=dict)
    json: Any = None  # Any: what JSON holds
    form: Values = field(default_factory=dict)
    files: Values = field(default_factory=dict)
    """Field of the form to the name of the file that is sent in it."""
    body: str | None = None
    """Text that is sent as it is."""
    status: int = 200
    keep: Values = field(default_factory=dict)
    """Name to the field of the answer that later examples mean by it, such as id or data.0.id."""
    key: bool = True
    """Whether the call carries the API key."""
    cloud: str = ""
    """The same with `pdmlab.cloud`, where `cloud` is a Cloud."""

    @property
    def name(self) -> str:
        """The operation, such as GET /v3/devices."""
        return f"{self.method} {self.path}"

    def url(self, known: Callable[[str], str]) -> str:
        """Return path and query, with what `known` says of each name."""
        path = _NAME.sub(lambda found: self.values.get(found[1], found[0]), self.path)
        query = "&".join(f"{_quoted(name, known)}={_quoted(value, known)}" for name, value in self.query.items())
        return _NAME.sub(lambda found: known(found[1]), path) + (f"?{query}" if query else "")

    def curl(self, host: str) -> str:
        """Return the call as a line for a shell, where names are variables: {device_id} is $DEVICE_ID."""
        parts = ["curl"]
        if self.method != "GET":
            parts += ["-X", self.method]
        parts.append(_word(host + self.url(lambda name: f"{{{name}}}")))
        if self.key:
            parts += ["-H", '"Authorization: Bearer $API_KEY"']
        for name, value in self.headers.items():
            parts += ["-H", _word(f"{name}: {value}")]
        if self.json is not None:
            parts += ["-H", "'Content-Type: application/json'", "-d", _word(json.dumps(self.json, ensure_ascii=False))]
        for name, value in self.form.items():
            parts += ["-F", _word(f"{name}={value}")]
        for name, value in self.files.items():
            parts += ["-F", _word(f"{name}=@{value}")]
        if self.body is not None:
            parts += ["--data-binary", _word(self.body)]
        return " ".join(parts)


@functools.cache
def examples() -> dict[str, Example]:
    """Return all, by operation, in the order in which they work one after the other."""
    rows = tomllib.loads((files(__package__) / "examples.toml").read_text("utf-8"))
    return {name: Example(*_operation(name), **row) for name, row in rows.items()}


def _operation(name: str) -> tuple[str, str]:
    method, _, path = name.partition(" ")
    return method, path


def filled(value: Any, known: Values) -> Any:  # Any: what JSON holds
    """Return a value with what is known in place of the names in its texts."""
    if isinstance(value, str):
        return _NAME.sub(lambda found: known[found[1]], value)
    if isinstance(value, dict):
        return {name: filled(each, known) for name, each in value.items()}
    if isinstance(value, list):
        return [filled(each, known) for each in value]
    return value


def _quoted(text: str, known: Callable[[str], str]) -> str:
    """Return text as it stands in a query; names are replaced, and not quoted."""
    parts = _NAME.split(text)
    return "".join(known(part) if odd % 2 else quote(part, safe="") for odd, part in enumerate(parts))


def _word(text: str) -> str:
    """Return text as one word of a shell, with its names as variables."""
    parts = _NAME.split(text)
    return "".join(
        f'"${part.upper()}"' if odd % 2 else shlex.quote(part) for odd, part in enumerate(parts) if part or odd % 2
    )
