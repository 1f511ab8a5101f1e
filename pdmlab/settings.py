"""Settings: keyword > PDMLAB_* environment > pdmlab.toml > default, and each value knows where it came from.

>>> load(board="sim://K64F").origin("board")
'keyword'
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

from pdmlab.errors import ConfigError

Value = str | int | float | bool


@dataclass(frozen=True)
class Known:
    """A setting that exists: its default, and what it is for."""

    default: Value
    doc: str


KNOWN: dict[str, Known] = {
    "board": Known("sim://K64F", "URL of the board that connect() opens when told nothing"),
    "seed": Known(1, "seed of everything random in a simulation"),
    "data": Known("", "folder of the measured runs; empty: the nearest data/ folder, else ./data"),
    "state": Known("", "folder of virtual boards' media and the service's database; empty: the user's state folder"),
    "database": Known("", "URL of the service's database, postgresql://user@host/name; empty: a file in its folder"),
    "credentials": Known("", "mbed_cloud_dev_credentials.c that virtual boards have compiled in; empty: the service's"),
    "callback_hosts": Known(
        "", "whom the service may call back: names, addresses, networks, loopback, none; empty: loopback, if there"
    ),
    "firmware_delivery": Known(
        "", "pull or push: how a campaign's image comes to a device that takes both, by LwM2M's object 5; empty: pull"
    ),
    "host": Known("", "address of the service's REST API; empty: the service of this process"),
    "ca": Known("", "PEM file of the CA that signed that service's certificate; empty: those that the system trusts"),
    "api_key": Known("", "API key for that service; CLOUD_SDK_API_KEY serves as well"),
}
_PREFIX = "PDMLAB_"
_SECRET = frozenset({"api_key", "database"})


class Settings(Mapping[str, Value]):
    """The settings in force, each with its origin."""

    def __init__(self, values: Mapping[str, tuple[Value, str]]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> Value:
        return self._values[name][0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def origin(self, name: str) -> str:
        """Return where the value came from: keyword, a variable, a file, or default."""
        return self._values[name][1]

    def text(self, name: str) -> str:
        """Return the value as text."""
        return str(self[name])

    def number(self, name: str) -> int:
        """Return the value as a whole number.

        Raises:
            ConfigError: it is none.
        """
        try:
            return int(self[name])
        except ValueError:
            raise ConfigError(
                f"the setting {name} is {self[name]!r} (from {self.origin(name)}), which is no whole number",
                hint=KNOWN[name].doc,
            ) from None

    def folder(self, name: str) -> Path:
        """Return the folder that the setting `data` or `state` names, by its default if it is empty."""
        if self[name]:
            return Path(str(self[name])).expanduser().absolute()
        if name == "state":
            from platformdirs import user_state_path

            return user_state_path("pdmlab")
        for folder in (Path.cwd(), *Path.cwd().parents):
            if (folder / "data").is_dir() and (folder / "pdmlab").is_dir():
                return folder / "data"
        return Path.cwd() / "data"

    def provenance(self) -> dict[str, dict[str, Value]]:
        """Return name -> {value, origin} for a sidecar; secrets are left out."""
        return {
            name: {"value": value, "origin": origin}
            for name, (value, origin) in self._values.items()
            if name not in _SECRET
        }

    def _shown(self) -> list[tuple[str, str, str, str]]:
        return [
            (name, "•••" if name in _SECRET and value else str(value), origin, KNOWN[name].doc)
            for name, (value, origin) in self._values.items()
        ]

    def __repr__(self) -> str:
        return "\n".join(f"{name} = {value}  ({origin})" for name, value, origin, _ in self._shown())

    def _repr_html_(self) -> str:
        rows = "".join(
            "<tr>" + "".join(f"<td style='text-align:left'>{escape(cell)}</td>" for cell in row) + "</tr>"
            for row in self._shown()
        )
        return f"<table><tr><th>setting</th><th>value</th><th>from</th><th>what it is</th></tr>{rows}</table>"


def load(**keywords: Value | None) -> Settings:
    """Return the settings in force; a keyword of None counts as not given.

    Raises:
        ConfigError: a keyword, a PDMLAB_* variable, or a line of pdmlab.toml names no setting.
    """
    file, in_file = _read_file()
    variables = [name.removeprefix(_PREFIX).lower() for name in os.environ if name.startswith(_PREFIX)]
    for names, where in ((keywords, "keyword"), (variables, f"a {_PREFIX}* variable"), (in_file, str(file))):
        for name in names:
            if name not in KNOWN:
                raise ConfigError(f"there is no setting {name!r} ({where})", hint=f"known are {', '.join(KNOWN)}")
    values: dict[str, tuple[Value, str]] = {}
    for name, known in KNOWN.items():
        given = keywords.get(name)
        variable = _PREFIX + name.upper()
        if given is not None:
            values[name] = (given, "keyword")
        elif variable in os.environ:
            values[name] = (os.environ[variable], variable)
        elif name in in_file:
            values[name] = (in_file[name], str(file))
        else:
            values[name] = (known.default, "default")
    return Settings(values)


def _read_file() -> tuple[Path | None, dict[str, Value]]:
    for folder in (Path.cwd(), *Path.cwd().parents):
        file = folder / "pdmlab.toml"
        if file.is_file():
            try:
                return file, tomllib.loads(file.read_text(encoding="utf-8"))
            except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
                raise ConfigError(
                    f"{file} is no TOML: {error}", hint="write lines such as: board = 'sim://K64F'"
                ) from error
    return None, {}
