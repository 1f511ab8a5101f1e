"""The decoded message log: who sent what to whom and when, as rows, lines and a frame.

It is fed by the `tap` of CoAP endpoints, of several threads too. Secrets never reach it: payloads to and from
the security object and of certificate enrolment are kept as their size only. What peers send is kept in part,
and in characters that can be printed.
"""

from __future__ import annotations

import json
import struct
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

from aiocoap.numbers.optionnumbers import OptionNumber
from aiocoap.numbers.types import Type

if TYPE_CHECKING:
    import pandas as pd
    from aiocoap import Message

PREVIEW = 48  # B of a payload that are kept
LONGEST = 200  # characters that are kept of a path, a query and the options
SECRET_PATHS = {"0", "est", "21"}  # first segments: Security, certificate enrolment, OSCORE
_SHOWN_APART = (OptionNumber.URI_PATH, OptionNumber.URI_QUERY, OptionNumber.LOCATION_PATH)


@dataclass(frozen=True, slots=True)
class LoggedMessage:
    """A message as it is kept; `path` of a response is its request's, if that was seen."""

    time_ns: int
    clock: str
    endpoint: str
    direction: Literal["in", "out"]
    peer: str
    type: str
    code: str
    mid: int
    token: str
    path: str
    query: str
    options: str
    payload_B: int
    payload: str

    def __str__(self) -> str:
        arrow = "<-" if self.direction == "in" else "->"
        parts = [f"{self.time_ns / 1e9:12.6f} s", self.endpoint, arrow, self.peer, self.type, self.code]
        parts += [f"mid {self.mid}", f"token {self.token}" if self.token else "", self.path + self.query, self.options]
        parts += [f"{self.payload_B} B {self.payload}" if self.payload_B else ""]
        return "  ".join(part for part in parts if part)


class MessageLog:
    """Messages of one or several endpoints: the latest `limit` in memory, all of them in `journal` if given.

    Use it, or `log.of("device")` where several endpoints share a log, as an endpoint's `tap`.
    """

    def __init__(
        self, *, endpoint: str = "endpoint", clock: str = "host", limit: int = 10_000, journal: Path | None = None
    ) -> None:
        self.endpoint = endpoint
        self.clock = clock
        self._rows: deque[LoggedMessage] = deque(maxlen=limit)
        self._requests: OrderedDict[tuple[str, str, str, str], tuple[str, str, bool]] = OrderedDict()
        self._lock = threading.Lock()
        self._journal: TextIO | None = journal.open("a", encoding="utf-8") if journal is not None else None
        self._watchers: tuple[Callable[[LoggedMessage, bytes], None], ...] = ()
        self.journal_error: OSError | None = None
        """Why the journal ends early (its disk is full, say); the log in memory goes on."""

    def __call__(self, direction: Literal["in", "out"], peer: tuple[str, int], message: Message, when: int) -> None:
        self.add(self.endpoint, direction, peer, message, when)

    def of(self, endpoint: str) -> _Tap:
        """Return a tap whose rows name this endpoint."""
        return _Tap(self, endpoint)

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[LoggedMessage]:
        with self._lock:
            return iter(list(self._rows))

    def __repr__(self) -> str:
        ended = f", journal ended: {self.journal_error}" if self.journal_error is not None else ""
        return f"<MessageLog, {len(self)} messages{ended}>"

    def add(
        self, endpoint: str, direction: Literal["in", "out"], peer: tuple[str, int], message: Message, when: int
    ) -> None:
        """Keep one message; `when` in ns of the endpoint's clock."""
        options = message.opt
        name, token = f"{peer[0]}:{peer[1]}", message.token.hex()
        with self._lock:
            if message.code.is_request():
                segments = options.uri_path
                secret = bool(segments) and (segments[0].lstrip("0") or segments[0][:1]) in SECRET_PATHS
                path = _shown("/" + "/".join(segments)) if segments else ""
                query = _shown("?" + "&".join(options.uri_query)) if options.uri_query else ""
                self._requests[endpoint, name, token, direction] = path, query, secret
                self._requests.move_to_end((endpoint, name, token, direction))
                if len(self._requests) > 4 * (self._rows.maxlen or 1):
                    self._requests.popitem(last=False)
            elif message.code != 0:
                asked = "out" if direction == "in" else "in"
                path, query, secret = self._requests.get((endpoint, name, token, asked), ("", "", False))
            else:
                path, query, secret = "", "", False
            row = LoggedMessage(
                when,
                self.clock,
                endpoint,
                direction,
                name,
                message.mtype.name if message.mtype is not None else "",
                str(message.code),
                message.mid or 0,
                token,
                path,
                query,
                _shown(_options(message)),
                len(message.payload),
                "(kept secret)" if secret and message.payload else _preview(message.payload),
            )
            self._rows.append(row)
            self._write(row)
            watchers = self._watchers
        for watcher in watchers:
            watcher(row, _bytes_of(message, secret=secret))

    def watch(self, watcher: Callable[[LoggedMessage, bytes], None]) -> None:
        """Call with each row and the message itself, its secrets overwritten: for a capture in plain text."""
        with self._lock:
            self._watchers = (*self._watchers, watcher)

    def unwatch(self, watcher: Callable[[LoggedMessage, bytes], None]) -> None:
        """Call no more; a second time does nothing."""
        with self._lock:
            self._watchers = tuple(each for each in self._watchers if each != watcher)

    def _write(self, row: LoggedMessage) -> None:
        if self._journal is None:
            return
        try:
            self._journal.write(json.dumps(asdict(row), ensure_ascii=False) + "\n")
            self._journal.flush()
        except OSError as error:  # it must not silence the endpoint that is watched
            self.journal_error = error
            self._end_journal()

    def lines(self) -> str:
        """Return the log as text, a line a message."""
        return "\n".join(map(str, self))

    def frame(self) -> pd.DataFrame:
        """Return the log as a frame, a row a message."""
        import pandas as pd

        columns = list(LoggedMessage.__dataclass_fields__)
        return pd.DataFrame([asdict(row) for row in self], columns=columns)

    def close(self) -> None:
        """Close the journal."""
        with self._lock:
            self._end_journal()

    def _end_journal(self) -> None:
        journal, self._journal = self._journal, None
        if journal is None:
            return
        try:
            journal.close()
        except OSError as error:  # what was not written yet
            self.journal_error = self.journal_error or error


class _Tap:
    def __init__(self, log: MessageLog, endpoint: str) -> None:
        self._log = log
        self._endpoint = endpoint

    def __call__(self, direction: Literal["in", "out"], peer: tuple[str, int], message: Message, when: int) -> None:
        self._log.add(self._endpoint, direction, peer, message, when)


def _bytes_of(message: Message, *, secret: bool) -> bytes:
    """Return a message as it stands in UDP (RFC 7252 §3); of a secret payload nothing but the size is left.

    Of what came over a stream, which has neither type nor id, a non-confirmable message is made.
    """
    kind = Type.NON if message.mtype is None else message.mtype
    payload: bytes = b"*" * len(message.payload) if secret else message.payload
    head = struct.pack("!BBH", 1 << 6 | int(kind) << 4 | len(message.token), int(message.code), message.mid or 0)
    token: bytes = message.token
    options: bytes = message.opt.encode()
    return head + token + options + (b"\xff" + payload if payload else b"")


def _options(message: Message) -> str:
    parts = []
    for option in message.opt.option_list():
        if option.number in (OptionNumber.BLOCK1, OptionNumber.BLOCK2):
            block = option.value
            parts.append(f"{option.number.name_printable} {block.block_number}/{int(block.more)}/{block.size}")
        elif option.number in (OptionNumber.CONTENT_FORMAT, OptionNumber.ACCEPT):
            parts.append(f"{option.number.name_printable} {int(option.value)}")
        elif option.number == OptionNumber.LOCATION_PATH:
            parts.append(f"Location-Path {option.value}")
        elif option.number not in _SHOWN_APART:
            name = option.number.name_printable if hasattr(option.number, "name") else f"Option {int(option.number)}"
            parts.append(f"{name} {option}")
    return ", ".join(parts)


def _shown(text: str) -> str:
    """Return text as a line can hold it: what cannot be printed is escaped, and a long rest is left out."""
    if len(text) > LONGEST:
        text = text[:LONGEST] + "…"
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _preview(payload: bytes) -> str:
    head = payload[:PREVIEW]
    rest = "…" if len(payload) > PREVIEW else ""
    try:
        text = head.decode("ascii")
    except UnicodeDecodeError:
        return head.hex(" ") + rest
    return text + rest if text.isprintable() else head.hex(" ") + rest
