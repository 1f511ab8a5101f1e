"""Transcripts of the wire: what is sent in bytes, and what has to come in bytes, typed by hand.

    rd > 44 02 0001 a1a2a3a4  b2 "rd" …      the test sends this to port `rd` of what is tested
    rd < 64 41 0001 a1a2a3a4 $where:32 …     this has to come next on that port; $where:32 are any 32 bytes,
                                             and $where is the same 32 bytes ever after
    rd = 5                                   nothing may come for 5 s; what came sooner has to have been asked for
    rd ~ 45 50                               what comes next comes between 45 and 50 s from here
    do NAME                                  calls the stage: a restart, a value that changes

Hex and "text" may be mixed, with any blanks between; `*` at the end stands for any rest. A line that begins with a
blank goes on with the one before; # begins a comment; what stands between | and | is one too. The first lines,
`name: value`, are the transcript's head.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

_TOKEN = re.compile(r'"(?P<text>[^"]*)"|\$(?P<name>\w+)(?::(?P<size>\d+))?|(?P<hex>[0-9a-fA-F]+)|(?P<rest>\*)')
_STEP = re.compile(r"(?P<port>\w+) (?P<what>[<>=~]) (?P<args>.*)|do (?P<call>.+)")
_COMMENT = re.compile(r"\|[^|]*\|")


@dataclass
class Step:
    """One line: what happens, on which port."""

    line: int
    what: str
    port: str = ""
    args: str = ""


@dataclass
class Transcript:
    """A file's head and its steps."""

    path: Path
    head: dict[str, str]
    steps: list[Step] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Transcript:
        """Read a file; raise ValueError where a line cannot be read."""
        lines: list[tuple[int, str]] = []
        for number, raw in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            text = _COMMENT.sub(" ", _without_comment(raw)).rstrip()
            if not text:
                continue
            if text[0].isspace() and lines:
                lines[-1] = lines[-1][0], f"{lines[-1][1]} {text.strip()}"
            else:
                lines.append((number, text))
        transcript = cls(path, {})
        for number, text in lines:
            name, colon, value = text.partition(": ")
            if colon and not transcript.steps and " " not in name:
                transcript.head[name] = value.strip()
                continue
            match = _STEP.fullmatch(text)
            if match is None:
                raise ValueError(f"{path.name}:{number}: {text!r} is no step")
            if match["call"]:
                transcript.steps.append(Step(number, "do", args=match["call"].strip()))
            else:
                transcript.steps.append(Step(number, match["what"], match["port"], match["args"]))
        return transcript


def _without_comment(line: str) -> str:
    quoted = False
    for at, each in enumerate(line):
        quoted ^= each == '"'
        if each == "#" and not quoted:
            return line[:at]
    return line


class Bytes:
    """What is known of a message's bytes; `known` are the variables so far."""

    def __init__(self, known: dict[str, bytes]) -> None:
        self.known = known

    def write(self, notation: str) -> bytes:
        """Return the bytes that a notation stands for."""
        out = b""
        for token in self._tokens(notation):
            if token["name"]:
                out += self.known[token["name"]]
            elif token["text"] is not None:
                out += token["text"].encode()
            else:
                out += bytes.fromhex(token["hex"])
        return out

    def match(self, notation: str, data: bytes) -> str | None:
        """Compare; learn new variables; return where they differ, None if they do not."""
        at = 0
        for token in self._tokens(notation):
            if token["rest"]:
                return None
            if token["name"] and token["name"] not in self.known:
                size = int(token["size"])
                if at + size > len(data):
                    return f"it ends at {len(data)} B, before ${token['name']}"
                self.known[token["name"]] = data[at : at + size]
                at += size
                continue
            if token["name"]:
                wanted = self.known[token["name"]]
            else:
                wanted = token["text"].encode() if token["text"] is not None else bytes.fromhex(token["hex"])
            found = data[at : at + len(wanted)]
            if found != wanted:
                return f"at {at} it has {found.hex(' ')} ({found!r}), not {wanted.hex(' ')} ({wanted!r})"
            at += len(wanted)
        return None if at == len(data) else f"{len(data) - at} B are too many: {data[at:].hex(' ')} ({data[at:]!r})"

    def _tokens(self, notation: str) -> list[dict[str, str]]:
        found, at = [], 0
        text = notation.strip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                raise ValueError(f"{text[at : at + 20]!r} is neither hex, text nor a variable")
            found.append(match.groupdict())
            at = match.end()
            while at < len(text) and text[at].isspace():
                at += 1
        return found
