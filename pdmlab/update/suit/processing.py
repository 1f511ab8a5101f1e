"""What a recipient does with a SUIT manifest: it runs the sequences, command by command, component by component.

Draft-ietf-suit-manifest-34, 6: the shared sequence runs before each other one, parameters are a component's own, and
the first condition that does not hold ends the processing, but inside try-each and with soft failure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from pdmlab.update.results import FotaResult, rejected
from pdmlab.update.suit import cbor
from pdmlab.update.suit.manifest import MAX_URI, ComponentId, Step, SuitManifest, decode_steps
from pdmlab.update.suit.numbers import Command, Key, Parameter

UPDATE = (Key.PAYLOAD_FETCH, Key.INSTALL)
"""The sequences of an update, in their order."""
START = (Key.VALIDATE, Key.LOAD, Key.INVOKE)
"""The sequences of a start."""
MAX_COMMANDS = 1000
"""Commands that a board runs for one manifest, loops over components and alternatives included."""


class Processor(Protocol):
    """The device that commands act on."""

    @property
    def vendor_id(self) -> bytes:
        """16 bytes."""
        ...

    @property
    def class_id(self) -> bytes:
        """16 bytes."""
        ...

    @property
    def device_id(self) -> bytes | None:
        """16 bytes, where devices are told apart."""
        ...

    def has(self, component: ComponentId) -> bool:
        """Say whether it has such a component."""
        ...

    def fetch(self, component: ComponentId, uri: str, size: int | None, digest: bytes | None) -> None:
        """Fetch a payload of that size (B) and SHA-256, if the manifest says them, into a component."""
        ...

    def copy(self, component: ComponentId, source: ComponentId) -> None:
        """Copy one component over another."""
        ...

    def write(self, component: ComponentId, content: bytes) -> None:
        """Write content that the manifest carries."""
        ...

    def matches(self, component: ComponentId, digest: bytes, size: int | None) -> bool:
        """Say whether a component holds that SHA-256 and size (B)."""
        ...

    def invoke(self, component: ComponentId) -> None:
        """Start what a component holds."""
        ...


class _Unmet(Exception):
    """A condition does not hold: the result that it ends with, and why."""

    def __init__(self, result: FotaResult, why: str) -> None:
        super().__init__(why)
        self.result, self.why = result, why


def process(manifest: SuitManifest, device: Processor, sequences: Iterable[Key] = UPDATE) -> None:
    """Run sequences of a manifest on a device; those that the manifest has not are nothing to do.

    Raises:
        ManifestRejected: a condition does not hold (22 to 49, as the FOTA client would say it), or a command is
            not known or not complete (22). What was done before stays done.
    """
    for component in manifest.components:
        if not device.has(component):
            raise rejected(FotaResult.UNKNOWN_COMPONENT, f"it is for component {name(component)!r}")
    run = _Run(manifest, device)
    for key in sequences:
        if key in manifest.sequences:
            try:
                run.steps(manifest.shared)
                run.steps(manifest.sequences[key])
            except _Unmet as unmet:
                raise rejected(unmet.result, f"{key.name.lower().replace('_', ' ')}: {unmet.why}") from unmet


def name(component: ComponentId) -> str:
    """Say a component's id as people read it."""
    return "/".join(part.decode("utf-8", "backslashreplace") for part in component)


class _Run:
    def __init__(self, manifest: SuitManifest, device: Processor) -> None:
        self._components = manifest.components
        self._device = device
        self._parameters: list[dict[int, Any]] = [{} for _ in self._components]
        self._chosen = [0]
        self._left = MAX_COMMANDS
        self._depth = 0

    def steps(self, steps: Iterable[Step]) -> None:
        for number, argument in steps:
            self._left -= 1
            if self._left < 0:
                raise cbor.malformed(f"the manifest runs more than {MAX_COMMANDS} commands")
            if number == Command.SET_COMPONENT_INDEX:
                self._chosen = self._indices(argument)
            elif number == Command.TRY_EACH:
                self._try_each(argument)
            elif number == Command.RUN_SEQUENCE:
                self._nested(argument)
            else:
                for index in self._chosen:
                    self._one(number, argument, index)

    def _indices(self, argument: Any) -> list[int]:
        if argument is True:
            return list(range(len(self._components)))
        listed = argument if isinstance(argument, list) else [argument]
        return [cbor.a_number(each, "a component index", most=len(self._components) - 1) for each in listed]

    def _nested(self, argument: Any) -> None:
        """Run a sequence in a sequence; with soft failure, a condition in it that does not hold ends only it."""
        if self._depth >= 4:
            raise cbor.malformed("sequences are nested more than 4 deep")
        chosen, self._depth = self._chosen, self._depth + 1
        for index in chosen:
            self._parameters[index][Parameter.SOFT_FAILURE] = False
        try:
            self.steps(decode_steps(argument, "a nested sequence"))
        except _Unmet:
            if not any(self._parameters[index].get(Parameter.SOFT_FAILURE) is True for index in chosen):
                raise
        finally:
            self._chosen, self._depth = chosen, self._depth - 1

    def _try_each(self, argument: Any) -> None:
        failure: _Unmet | None = None
        for each in cbor.an_array(argument, "try-each"):
            if each is None:
                return  # none of them has to hold
            try:
                self._nested(each)
                return
            except _Unmet as unmet:
                failure = unmet
        raise failure or cbor.malformed("try-each has nothing to try")

    def _one(self, number: int, argument: Any, index: int) -> None:
        component, given, device = self._components[index], self._parameters[index], self._device
        match number:
            case Command.OVERRIDE_PARAMETERS:
                given.update(self._checked(argument))
            case Command.VENDOR_IDENTIFIER:
                _same(given, Parameter.VENDOR_IDENTIFIER, device.vendor_id, FotaResult.VENDOR_MISMATCH, "vendor")
            case Command.CLASS_IDENTIFIER:
                _same(given, Parameter.CLASS_IDENTIFIER, device.class_id, FotaResult.CLASS_MISMATCH, "class")
            case Command.DEVICE_IDENTIFIER:
                _same(given, Parameter.DEVICE_IDENTIFIER, device.device_id, FotaResult.NOT_FOUND, "device")
            case Command.IMAGE_MATCH:
                digest = _needed(given, Parameter.IMAGE_DIGEST)
                if not device.matches(component, digest, given.get(Parameter.IMAGE_SIZE)):
                    raise _Unmet(FotaResult.PAYLOAD_CORRUPTED, f"{name(component)} is not {digest.hex()[:16]}…")
            case Command.FETCH:
                uri = _needed(given, Parameter.URI, FotaResult.BAD_URI)
                device.fetch(component, uri, given.get(Parameter.IMAGE_SIZE), given.get(Parameter.IMAGE_DIGEST))
            case Command.COPY:
                device.copy(component, self._components[_needed(given, Parameter.SOURCE_COMPONENT)])
            case Command.WRITE:
                device.write(component, _needed(given, Parameter.CONTENT))
            case Command.INVOKE:
                device.invoke(component)
            case Command.ABORT:
                raise _Unmet(FotaResult.INSTALL_REFUSED, "the manifest says to abort here")
            case _:
                raise cbor.malformed(f"command {number} is not one that boards here have")

    def _checked(self, argument: Any) -> dict[int, Any]:
        """Read the parameters of an override; each has its own type."""
        read: dict[int, Any] = {}
        for key, value in cbor.a_map(argument, "the parameters").items():
            match key:
                case Parameter.VENDOR_IDENTIFIER | Parameter.CLASS_IDENTIFIER | Parameter.DEVICE_IDENTIFIER:
                    read[key] = cbor.some_bytes(value, "an identifier", size=16)
                case Parameter.IMAGE_DIGEST:
                    read[key] = cbor.read_digest(value, "the image's digest")
                case Parameter.IMAGE_SIZE:
                    read[key] = cbor.a_number(value, "the image's size", most=0xFFFF_FFFF)
                case Parameter.URI:
                    read[key] = cbor.some_text(value, "the URI", most=MAX_URI)
                case Parameter.SOURCE_COMPONENT:
                    read[key] = cbor.a_number(value, "the source component", most=len(self._components) - 1)
                case Parameter.CONTENT | Parameter.INVOKE_ARGS:
                    read[key] = cbor.some_bytes(value, "the content")
                case Parameter.SOFT_FAILURE | Parameter.STRICT_ORDER if isinstance(value, bool):
                    read[key] = value
                case _:
                    raise cbor.malformed(f"parameter {str(key)[:20]} is not one that boards here have")
        return read


def _needed(given: dict[int, Any], key: Parameter, result: FotaResult = FotaResult.MANIFEST_MALFORMED) -> Any:
    """Return a parameter that a command cannot do without."""
    if key not in given:
        raise rejected(result, f"no {key.name.lower().replace('_', ' ')} is set where a command needs it")
    return given[key]


def _same(given: dict[int, Any], key: Parameter, own: bytes | None, result: FotaResult, what: str) -> None:
    wanted: bytes = _needed(given, key)
    if wanted != own:
        raise _Unmet(result, f"it is for {what} {wanted.hex()}, not {own.hex() if own is not None else 'known here'}")
