"""A device's components, which are updated one by one: the firmware itself, MAIN, and what applications add.

    radio = Component("RADIO", "1.0.0", install=flash_the_radio)

MAIN is installed by the bootloader. Others are installed by the application's functions, on the running device
(mbed-cloud-client 4.13, fota_component.c, fota_sub_component.c and fota.c). An installer, as every other function
here, refuses by returning False or by raising; its update ends with result 40 then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from pdmlab.errors import ConfigError
from pdmlab.update.payloads.interface import ReadActive
from pdmlab.update.version import Version

MAIN = "MAIN"
MAX_COMPONENTS = 8
"""The most that fota.num-components can be."""
MAX_NAME = 8


@dataclass(frozen=True)
class Installation:
    """What an installer gets: an image that has been verified.

    part: the sub-component that it is for, or "". vendor_data: as the manifest, or the package, has it.
    """

    component: str
    version: Version
    size: int
    part: str = ""
    vendor_data: bytes = b""
    read: Callable[[int, int], bytes] = field(repr=False, default=lambda position, size: b"")
    """Reads any bytes of the image: position, size (B)."""

    def pieces(self, size: int = 1024) -> Iterator[bytes]:
        """Read the image in pieces of so many bytes; the last may be shorter."""
        for at in range(0, self.size, size):
            yield self.read(at, min(size, self.size - at))


Handler = Callable[[Installation], object]


@dataclass(frozen=True)
class SubComponent:
    """A part of a component that comes in combined packages; parts are installed and verified in their order.

    rollback: undoes an installation when a later part's fails. finalize: is told the result, 0 for a success.
    """

    name: str
    install: Handler
    verify: Handler | None = None
    rollback: Handler | None = None
    finalize: Callable[[Installation, int], object] | None = None

    def __post_init__(self) -> None:
        _check_name(self.name, "sub-component")


@dataclass(frozen=True)
class Component:
    """One component: its name (1 to 8 characters), the version that it left the factory with, and who installs it.

    install       puts an image in place; None for MAIN and for components of parts
    verify        says whether the new image works: after the reboot, or at once
    needs_reboot  whether the board restarts between the two
    read, digest  read what the component runs, and its SHA-256: needed for deltas
    parts         what combined packages bring
    """

    name: str
    version: str
    install: Handler | None = None
    verify: Handler | None = None
    needs_reboot: bool = False
    read: ReadActive | None = None
    digest: Callable[[], bytes] | None = None
    parts: tuple[SubComponent, ...] = ()

    def __post_init__(self) -> None:
        _check_name(self.name, "component")
        Version.parse(self.version)
        if self.name != MAIN and self.install is None and not self.parts:
            raise ConfigError(f"nobody installs the component {self.name}", hint="give it install=, or parts=")
        if len({part.name for part in self.parts}) != len(self.parts):
            raise ConfigError(f"two parts of the component {self.name} have the same name")


class Versions(Protocol):
    """Component versions in secure storage (FTCmpV and the component's name); blocking."""

    def component_version(self, name: str) -> int | None:
        """Return the stored number of a component's version."""
        ...

    def remember_component_version(self, name: str, number: int) -> None:
        """Store it."""
        ...


class Components:
    """All of a device's components: MAIN first, instance 0 of object 14, then the others as they were added."""

    def __init__(self, main: Component, others: tuple[Component, ...], versions: Versions) -> None:
        self._versions = versions
        self._known = {component.name: component for component in (main, *others)}
        if len(self._known) != 1 + len(others):
            raise ConfigError("two components have the same name", hint="MAIN is the firmware itself")
        if len(self._known) > MAX_COMPONENTS:
            raise ConfigError(f"a device has at most {MAX_COMPONENTS} components")
        self._current = {name: Version.parse(component.version) for name, component in self._known.items()}

    def __repr__(self) -> str:
        return f"<components {', '.join(f'{name} {version}' for name, version in self._current.items())}>"

    def __iter__(self) -> Iterator[Component]:
        return iter(self._known.values())

    def load(self) -> None:
        """Read the stored versions; MAIN's is in its header, and not stored. Blocking; raises StorageError."""
        for name in self._known:
            number = None if name == MAIN else self._versions.component_version(name)
            if number is not None:
                try:
                    self._current[name] = Version.from_number(number)
                except ConfigError:  # damaged: the version from the factory is the older one, so updates still work
                    continue

    @property
    def current(self) -> dict[str, Version]:
        """The version of each."""
        return dict(self._current)

    def find(self, name: str) -> Component | None:
        """Return a component by its name."""
        return self._known.get(name)

    def index(self, name: str) -> int:
        """Return its instance in object 14."""
        return list(self._known).index(name)

    def renew(self, name: str, version: Version) -> None:
        """Take note that a component has another version now; blocking; raises StorageError."""
        if name != MAIN:
            self._versions.remember_component_version(name, version.number)
        self._current[name] = version


def _check_name(name: str, what: str) -> None:
    if not 1 <= len(name.encode()) <= MAX_NAME or not name.isascii() or name.startswith("%"):
        raise ConfigError(f"{name!r} is no {what}'s name", hint=f"1 to {MAX_NAME} characters, the first no %")
