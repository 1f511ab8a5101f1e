"""The constants of a generated C file: read from anybody's, written as ours.

Only what credential files hold is read: strings, byte arrays and numbers with a `const` before them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pdmlab.errors import ConfigError

Constant = str | bytes | int
MAX_SOURCE = 1 << 20  # characters; a credentials file has about 10 kB

_COMMENT_OR_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"|//[^\n]*|/\*.*?\*/', re.DOTALL)
_HEAD = r"\bconst\s+(?:unsigned\s+)?(?P<type>char|u?int(?:8|16|32)_t)\s+(?P<name>[A-Za-z_]\w*)\s*"
_DEFINITION = re.compile(
    _HEAD
    + r'(?:\[\s*\w*\s*\]\s*=\s*(?:(?P<text>"(?:[^"\\\n]|\\.)*"(?:\s*"(?:[^"\\\n]|\\.)*")*)|\{(?P<bytes>[^{}]*)\})'
    + r"|=\s*(?P<number>0[xX][0-9a-fA-F]+|[0-9]+)[uUlL]*)\s*;"
)
_PIECE = re.compile(r'"((?:[^"\\\n]|\\.)*)"')
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{1,2}|[0-7]{1,3}|.)")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


def read_constants(source: str) -> dict[str, Constant]:
    """Return every constant of a C source by name; raise ConfigError for a value that cannot be read."""
    if len(source) > MAX_SOURCE:
        raise ConfigError(f"{len(source)} characters are no credentials file")
    plain = _COMMENT_OR_STRING.sub(lambda found: found[0] if found[0].startswith('"') else " ", source)
    constants: dict[str, Constant] = {}
    for found in _DEFINITION.finditer(plain):
        name = found["name"]
        if found["number"] is not None:
            constants[name] = int(found["number"], 16 if found["number"][:2] in ("0x", "0X") else 10)
        elif found["text"] is not None:
            constants[name] = "".join(_unescape(piece) for piece in _PIECE.findall(found["text"]))
        else:
            constants[name] = _bytes(name, found["bytes"])
    return constants


def write_constants(constants: Mapping[str, Constant], *, guard: str = "", about: str = "") -> str:
    """Return a C source that defines the constants; each byte array gets a `<name>_SIZE` or `_size` beside it."""
    lines = [f"// {line}".rstrip() for line in about.splitlines()]
    lines += [f"#ifndef {guard}", f"#define {guard}"] if guard else []
    lines += ["", "#include <inttypes.h>", ""]
    for name, value in constants.items():
        match value:
            case str():
                lines += [f'const char {name}[] = "{_escape(value)}";']
            case int():
                lines += [f"const uint32_t {name} = {value};"]
            case bytes():
                rows = [", ".join(f"0x{byte:02x}" for byte in value[at : at + 8]) for at in range(0, len(value), 8)]
                lines += [f"const uint8_t {name}[] = {{", ",\n".join(f"    {row}" for row in rows), "};"]
                suffix, kind = ("_SIZE", "uint32_t") if name.isupper() else ("_size", "uint16_t")
                lines += [f"const {kind} {name}{suffix} = sizeof({name});", ""]
    lines += ["", f"#endif // {guard}"] if guard else []
    return "\n".join(lines).rstrip() + "\n"


def _bytes(name: str, body: str) -> bytes:
    try:
        return bytes(int(item, 0) for item in body.replace("\n", " ").split(",") if item.strip())
    except ValueError as error:
        raise ConfigError(f"the array {name} is not bytes: {error}") from error


def _unescape(text: str) -> str:
    def character(found: re.Match[str]) -> str:
        body = found[1]
        if body[0] == "x" and len(body) > 1:
            return chr(int(body[1:], 16))
        if body[0] in "01234567":
            return chr(int(body, 8))
        return _ESCAPES.get(body, body)

    return _ESCAPE.sub(character, text)


def _escape(text: str) -> str:
    if not text.isprintable():
        raise ConfigError(f"{text!r} cannot go into a C string", hint="leave out line breaks and control characters")
    return text.replace("\\", "\\\\").replace('"', '\\"')
