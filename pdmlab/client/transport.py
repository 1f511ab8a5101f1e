"""Which transport a build of the client speaks: decided when it is compiled, by its mbed_app.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, get_args

from pdmlab.errors import ConfigError

Transport: TypeAlias = Literal["tcp", "udp", "udp_queue"]
"""tcp: TLS, or plain TCP without security. udp: DTLS, or UDP. udp_queue: the same, asleep between what it sends."""

KEY = "device-management.mcc_transport_mode"
"""The seed's option; its values are those of `_MODES`."""
_MODES: dict[int, Transport | None] = {0: "tcp", 1: None, 2: "udp", 3: "udp_queue"}
_MACRO = "MBED_CLOUD_CLIENT_TRANSPORT_MODE_"
_MACROS: dict[str, Transport | None] = {
    f"{_MACRO}TCP": "tcp",
    f"{_MACRO}TCP_QUEUE": None,
    f"{_MACRO}UDP": "udp",
    f"{_MACRO}UDP_QUEUE": "udp_queue",
}
_KNOWN = get_args(Transport)


def check(transport: str | None) -> Transport | None:
    """Return a transport that somebody has named; None stands for the client's own choice.

    Raises:
        ConfigError: there is none of that name.
    """
    for known in _KNOWN:
        if transport == known:
            return known  # type: ignore[no-any-return]  # get_args knows no types
    if transport is None:
        return None
    raise ConfigError(f"the client has no transport {transport!r}", hint=f"one of {', '.join(_KNOWN)}")


def transport_of(document: Mapping[str, Any], target: str) -> Transport | None:
    """Return what an mbed_app.json says for a target; None if it says nothing.

    That is the seed's option device-management.mcc_transport_mode (0 TCP, 2 UDP, 3 UDP with a queue), or one of the
    stock client's macros MBED_CLOUD_CLIENT_TRANSPORT_MODE_TCP, _UDP and _UDP_QUEUE in target.macros_add or macros.

    Raises:
        ConfigError: it says what no build of the client can be, or several things.
    """
    sections = document.get("target_overrides")
    parts: list[Mapping[str, Any]] = []
    if isinstance(sections, Mapping):
        parts = [part for name in ("*", target) if isinstance(part := sections.get(name), Mapping)]
    said: dict[str, Transport | None] = {}
    option = next((part[KEY] for part in reversed(parts) if part.get(KEY) is not None), None)
    if option is not None:
        said[f"{KEY} {option}"] = _mode(option)
    for macro in [
        *_listed(document, "macros"),
        *(each for part in parts for each in _listed(part, "target.macros_add")),
    ]:
        name = macro.split("=")[0].strip()
        if name in _MACROS:
            said[name] = _MACROS[name]
    for what, transport in said.items():
        if transport is None:
            raise ConfigError(
                f"{what} in mbed_app.json: the client refuses TCP with a queue",
                hint="0 is TCP, 2 UDP, 3 UDP queue mode",
            )
    if len(set(said.values())) > 1:
        raise ConfigError(f"mbed_app.json has two transports: {' and '.join(said)}", hint="leave one")
    return next(iter(said.values()), None)


def _mode(option: object) -> Transport | None:
    try:
        return _MODES[int(str(option))]
    except (ValueError, KeyError):
        raise ConfigError(
            f"{KEY} is {option!r} in mbed_app.json", hint="0 is TCP, 2 UDP, 3 UDP in queue mode"
        ) from None


def _listed(part: Mapping[str, Any], name: str) -> list[str]:
    value = part.get(name, [])
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []
