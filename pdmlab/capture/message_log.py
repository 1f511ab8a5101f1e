"""The decoded message log: who sent what to whom and when, as rows, lines and a frame.

It is fed by the `tap` of CoAP endpoints, of several threads too, and decodes when it is looked at. Secrets never
reach it: payloads to and from the security object and of certificate enrolment are put in words that hold none. What
peers send is kept in part, and shown in characters that can be printed.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pdmlab.capture.dialect import Dialect, Plain
from pdmlab.capture.journal import Journal
from pdmlab.capture.kept import MOST, MOST_UNREADABLE, Direction, Event, Kept, KeptEvent, Secret
from pdmlab.capture.parts import take_apart
from pdmlab.capture.reading import Reader
from pdmlab.capture.secrets import FIRST, Secrets
from pdmlab.capture.shares import Shares
from pdmlab.capture.talks import Reading, Talk
from pdmlab.capture.view import Messages

if TYPE_CHECKING:
    from pdmlab.capture.plain import PlainCapture

Watcher = Callable[[Kept | KeptEvent], None]
_make_kept: Callable[[type[Kept], tuple[object, ...]], Kept] = tuple.__new__
"""Makes a Kept of its fields in their order, at a third of what its own constructor takes."""


class MessageLog(Messages):
    """Messages of one or several endpoints: the latest `limit` in memory, all of them in `journal` if given.

    Each device has a share of the memory; what went wrong, and registrations, are kept beside: see shares.py.

    Use it, or `log.of("lwm2m")` where several endpoints share a log, as an endpoint's `tap`.

    clock       the name of the clock that times are of
    now         returns Unix time (ns), to stand in place of what the endpoint's loop counts from its own beginning
    dialect     says what payloads mean
    own         whether it is a device's own log: all of it is about that device, whomever it talked to
    """

    def __init__(
        self,
        *,
        endpoint: str = "endpoint",
        clock: str = "host",
        limit: int = 10_000,
        journal: Path | None = None,
        now: Callable[[], int] | None = None,
        dialect: Dialect | None = None,
        own: bool = False,
    ) -> None:
        self.own = own
        self.endpoint = endpoint
        self.clock = clock
        self.dialect: Dialect = dialect if dialect is not None else Plain()
        self._now = now
        self._shares = Shares(limit, self.dialect, own=own)
        self._fresh, self._most_fresh = self._shares.fresh, self._shares.most_fresh
        self._next_number = itertools.count().__next__
        self._secrets = Secrets(self.dialect)
        self._lock = threading.Lock()
        self._tap = Tap(self, endpoint)
        self._watchers: tuple[Watcher, ...] = ()
        self._journal = Journal(journal, self.dialect, own=own) if journal is not None else None
        if self._journal is not None:
            self.watch(self._journal)

    def __call__(self, direction: Direction, peer: tuple[str, int], data: bytes, when: int) -> None:
        self._tap(direction, peer, data, when)

    def event(self, peer: tuple[str, int], event: Event, when: int = 0) -> None:
        """See Tap.event."""
        self._tap.event(peer, event, when)

    def unreadable(self, peer: tuple[str, int], data: bytes, why: str, when: int) -> None:
        """See Tap.unreadable."""
        self._tap.unreadable(peer, data, why, when)

    def of(self, endpoint: str) -> Tap:
        """Return a tap whose rows name this endpoint."""
        return Tap(self, endpoint)

    def of_device(self, device: str) -> DeviceLog:
        """Return what is of one device, by its id or endpoint name: over all its addresses, bootstrap included."""
        return DeviceLog(self, device)

    @property
    def title(self) -> str:
        """See Messages.title."""
        return f"Log of {self.endpoint}"

    @property
    def journal_error(self) -> OSError | None:
        """Why the journal ends early (its disk is full, say); the log in memory goes on."""
        return self._journal.error if self._journal is not None else None

    def __len__(self) -> int:
        return len(self._shares)

    def __repr__(self) -> str:
        ended = f", journal ended: {self.journal_error}" if self.journal_error is not None else ""
        return f"<MessageLog, {len(self)} messages{ended}>"

    def kept(self) -> list[Kept | KeptEvent]:
        """See Messages.kept."""
        return [kept for kept, _ in self._shares.rows()]

    def _readings(self) -> tuple[Reader, list[Reading]]:
        reader, readings = Reader(self.dialect, own=self.own), list[Reading]()
        talks: dict[Talk, Talk] = {}
        for kept, holder in self._shares.rows():
            known = holder.talk if isinstance(holder, Reading) else holder
            if known is not None:
                reader.meet((kept.endpoint, kept.peer), talks.get(known) or talks.setdefault(known, known.copy()))
            readings.append(reader.feed(kept))
        return reader, readings

    def reader(self) -> tuple[Reader, int]:
        """Return a reader that has read what is kept, to read on with, and the number of what comes next."""
        reader, readings = self._readings()
        return reader, readings[-1].kept.number + 1 if readings else 0

    def watch(self, watcher: Watcher) -> None:
        """Call with each message and event as it is kept, in the thread that it passes in."""
        with self._lock:
            self._watchers = (*self._watchers, watcher)

    def unwatch(self, watcher: Watcher) -> None:
        """Call no more; a second time does nothing."""
        with self._lock:
            self._watchers = tuple(each for each in self._watchers if each != watcher)

    def capture(self, path: Path | str) -> PlainCapture:
        """Write each message to a pcapng file as it passes, until the context ends; secrets are overwritten.

        Raises:
            NetworkError: the file cannot be written; when it is closed, if the disk was full meanwhile.
        """
        from pdmlab.capture.plain import PlainCapture

        return PlainCapture(self, path)

    def close(self) -> None:
        """Close the journal."""
        if self._journal is not None:
            self.unwatch(self._journal)
            self._journal.close()

    def _add_event(self, tap: Tap, peer: tuple[str, int], event: Event, when: int) -> None:
        when = when if self._now is None else self._now()
        kept = KeptEvent(self._next_number(), when, self.clock, tap.endpoint, tap.here, peer, event)
        self._add(kept)

    def _add(self, kept: Kept | KeptEvent) -> None:
        self._fresh.append(kept)
        if len(self._fresh) > self._most_fresh:
            self._shares.settle_soon()
        for watcher in self._watchers:
            watcher(kept)


class Tap:
    """What an endpoint tells its messages to: it sees each with its direction, peer, bytes and time (ns of its loop).

    here    where the endpoint is reached by which scheme, once it is open: the other end of messages in a capture
    """

    __slots__ = ("_log", "endpoint", "here")

    def __init__(self, log: MessageLog, endpoint: str) -> None:
        self._log = log
        self.endpoint = endpoint
        self.here: Mapping[str, tuple[str, int]] = {}

    def __call__(self, direction: Direction, peer: tuple[str, int], data: bytes, when: int) -> None:
        # Endpoints wait for this: no lock (a deque's append is one step), nothing decoded, one tuple made.
        log, code, size, secret = self._log, data[1], len(data), None
        if code and (self.endpoint in log._secrets.held or (code < 32 and _may_be_secret(data, size))):
            secret = self._secret(direction, peer, data, code)
            if secret is not None:
                data = data[: take_apart(data).payload_at]
        if size > MOST:
            data = data[:MOST]
        now = log._now
        kept = _make_kept(
            Kept,
            (
                log._next_number(),
                when if now is None else now(),
                log.clock,
                self.endpoint,
                self.here,
                direction,
                peer,
                data,
                size,
                secret,
                "",
            ),
        )
        log._fresh.append(kept)
        if len(log._fresh) > log._most_fresh:
            log._shares.settle_soon()
        for watcher in log._watchers:
            watcher(kept)

    def unreadable(self, peer: tuple[str, int], data: bytes, why: str, when: int) -> None:
        """Note something that came and is no message, at a time of the loop's clock (ns)."""
        log, now = self._log, self._log._now
        payload_at = data.find(b"\xff", 4)
        head = data[:MOST_UNREADABLE] if payload_at < 0 else data[: min(payload_at, MOST_UNREADABLE)]
        log._add(
            Kept(
                log._next_number(), when if now is None else now(), log.clock, self.endpoint, self.here, "in", peer,
                head, len(data), None, why,
            )
        )  # fmt: skip

    def _secret(self, direction: Direction, peer: tuple[str, int], data: bytes, code: int) -> Secret | None:
        take = self._log._secrets.of_request if code < 32 else self._log._secrets.of_response
        return take(self.endpoint, direction, peer, take_apart(data))

    @property
    def dialect(self) -> Dialect:
        """What the log is told that payloads mean."""
        return self._log.dialect

    @property
    def own(self) -> bool:
        """Whether the log is a device's own."""
        return self._log.own

    def event(self, peer: tuple[str, int], event: Event, when: int = 0) -> None:
        """Note something that happened to a connection or an exchange, at a time of the loop's clock (ns)."""
        self._log._add_event(self, peer, event, when)

    def __repr__(self) -> str:
        return f"<Tap of {self._log!r} for {self.endpoint}>"


def _may_be_secret(data: bytes, size: int) -> bool:
    """Whether a request needs a closer look: not if its path is its first option, and begins as no secret one does."""
    at = 4 + (data[0] & 15)
    return size > at + 1 and (data[at + 1] in FIRST or not 0xB0 <= data[at] <= 0xBC)


class DeviceLog(Messages):
    """What a log has of one device, by its id or its endpoint name."""

    def __init__(self, log: MessageLog, device: str) -> None:
        self.device = device
        self.dialect, self.own = log.dialect, log.own
        self._log = log

    def __repr__(self) -> str:
        return f"<DeviceLog of {self.device}, {len(self)} messages>"

    def __len__(self) -> int:
        return len(self._readings()[1])

    @property
    def title(self) -> str:
        """See Messages.title."""
        return f"Log of device {self.device}"

    def kept(self) -> list[Kept | KeptEvent]:
        """See Messages.kept."""
        return [each.kept for each in self._readings()[1]]

    def _readings(self) -> tuple[Reader, list[Reading]]:
        reader, readings = self._log._readings()
        talks = _talks_with(self.device, readings)
        return reader, [each for each in readings if each.talk in talks]


def _talks_with(device: str, readings: list[Reading]) -> set[Talk]:
    """Return the talks with a device; those too in which it gave its name and never got as far as its id."""
    talks = {each.talk for each in readings}
    known = {talk for talk in talks if device in (talk.device, talk.name)}
    names = {talk.name for talk in known if talk.device == device} - {""}
    return known | {talk for talk in talks if not talk.device and talk.name in names}
