"""SUIT manifests in words: one line for each element and command."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import Any

from pdmlab.update.suit.manifest import Step, SuitManifest
from pdmlab.update.suit.numbers import Command, Key, Parameter, Text
from pdmlab.update.suit.processing import name


def lines(manifest: SuitManifest) -> Iterator[tuple[str, str]]:
    """Yield where something stands in a manifest, and what it says."""
    yield "sequence number", str(manifest.sequence_number)
    for index, component in enumerate(manifest.components):
        yield f"component {index}", name(component)
        for key, said in manifest.text.get(component, {}).items():
            yield f"component {index}, {_word(Text, key)}", said
    if manifest.reference_uri is not None:
        yield "reference URI", manifest.reference_uri
    for where, steps in (("shared", manifest.shared), *((_word(Key, k), s) for k, s in manifest.sequences.items())):
        for step in steps:
            for said in _said(step):
                yield where, said


def _said(step: Step) -> Iterator[str]:
    number, argument = step
    if number == Command.OVERRIDE_PARAMETERS and isinstance(argument, dict):
        for key, value in argument.items():
            yield f"{_word(Parameter, key)} = {_shown(value)}"
    elif number in (Command.SET_COMPONENT_INDEX, Command.TRY_EACH, Command.RUN_SEQUENCE):
        yield f"{_word(Command, number)} {_shown(argument)}"
    else:
        yield _word(Command, number)


def _word(numbers: type[IntEnum], number: object) -> str:
    return next((each.name.lower().replace("_", " ") for each in numbers if each == number), str(number)[:20])


def _shown(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)[:200]
