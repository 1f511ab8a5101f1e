"""The rows that a log keeps, in shares: whoever says much displaces only what is his own.

A tap adds to `fresh` and waits for nothing. Now and then what is fresh is settled: it goes to the share of its device,
or of its peer's host as long as nobody knows the device. When there is too much, the largest shares lose their oldest
rows. Refusals, handshakes, ends of connections and registrations have shares of their own, so that no flood of other
messages ends them. Which device a connection is of outlasts the rows that said so.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterator
from itertools import repeat
from typing import TypeAlias

from pdmlab.capture.dialect import Dialect
from pdmlab.capture.kept import Kept, KeptEvent
from pdmlab.capture.parts import RST
from pdmlab.capture.reading import Reader
from pdmlab.capture.talks import Reading, Talk

Row: TypeAlias = tuple[Kept | KeptEvent, Talk | Reading | None]
"""What is kept, and whom it is of, so that what is learned later is known of it too."""
_Place: TypeAlias = tuple[str, tuple[str, int]]
_Group: TypeAlias = tuple[Talk | None, list[Kept | KeptEvent]]
_Key: TypeAlias = tuple[str, str]
"""The device or the host, and as what its rows outlast others."""

_STRANGERS = 1_000
"""Talks and exchanges, of each, with peers that nobody knows yet."""
_HOSTS = 64
"""Shares of hosts whose peers nobody knows: whoever has many addresses has no more than these."""
_LOOKED_BACK = 32
"""Rows of a share among which the request is looked for that was refused."""
_SPEAKING = (b"\xb2rd", b"\xb2bs")
"""First Uri-Path options of requests that, with their answers, say who a peer is."""
_POST, _DELETE, _CREATED, _DELETED, _CHANGED, _REFUSED = 2, 4, 65, 66, 68, 128
_ORDINARY = [code not in (0, _POST, _DELETE, _CREATED, _DELETED, _CHANGED) and code < _REFUSED for code in range(256)]
_KINDS = {
    "handshake failed": "failed handshake",
    "handshake started": "handshake",
    "handshake completed": "handshake",
    "connected": "end",
    "closed": "end",
}


class Shares:
    """The latest rows of a log, `limit` ordinary ones and a quarter as many notable ones; for several threads."""

    def __init__(self, limit: int, dialect: Dialect, *, own: bool) -> None:
        self.fresh: deque[Kept | KeptEvent] = deque()
        self.most_fresh = max(limit // 40, 1)
        """When there are more, whoever adds one calls `settle_soon`."""
        self._ordinary = _Rows(limit)
        self._notable = _Rows(-(-limit // 4))
        self._who = None if own else Reader(dialect, most=_STRANGERS)
        self._known: OrderedDict[_Place, Talk] = OrderedDict()
        self._most_known = max(limit, _STRANGERS)
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Shares of {len(self._ordinary.shares)}, {len(self)} rows>"

    def __len__(self) -> int:
        with self._lock:
            self._settle()
            return self._ordinary.count() + self._notable.count()

    def rows(self) -> list[Row]:
        """Return what there is in its order."""
        with self._lock:
            self._settle()
            every = (*self._ordinary.shares.values(), *self._notable.shares.values())
            return sorted((row for share in every for row in share.rows()), key=lambda row: row[0].number)

    def settle_soon(self) -> None:
        """Settle what is fresh, unless another thread is about to: nobody who passes messages waits for it."""
        if self._lock.acquire(blocking=False):
            try:
                self._settle()
            finally:
                self._lock.release()

    def _settle(self) -> None:
        pop, who = self.fresh.popleft, self._who
        groups: dict[_Place, _Group] = {}  # what follows each other of one peer, in one go: it is the endpoint's time
        ended, apart = list[_Group](), list[Row]()
        endpoint, peer, group = "", None, None  # of the message before: an answer has its request's
        for kept in [pop() for _ in range(len(self.fresh))]:
            if group is None or kept.peer is not peer or kept.endpoint is not endpoint:
                endpoint, peer = place = kept.endpoint, kept.peer
                group = groups.get(place)
                if group is None:
                    group = groups[place] = self._talk(place), []
            if type(kept) is Kept and not kept.fault and kept.secret is None and _ORDINARY[kept.data[1]]:
                group[1].append(kept)
                continue
            place = endpoint, kept.peer
            holder: Talk | Reading | None = group[0]
            if who is not None and self._speaks(kept, who):
                holder = self._heard(kept, place, who)
                if holder.talk is not group[0]:  # from here on it is somebody else
                    ended.append(groups.pop(place))
                    peer = None
            kind = _kind(kept)
            if kind == "refusal" and isinstance(kept, Kept):
                self._refused(kept, group)
            if kind or isinstance(holder, Reading):
                apart.append((kept, holder))
            else:
                group[1].append(kept)
        # Only now, as the last of them may say whose the first was.
        for talk, every in (*ended, *groups.values()):
            if every:
                self._ordinary.share((_owner(every[0], talk), "")).extend(every, talk)
        for row in apart:
            kind = _kind(row[0])
            (self._notable if kind else self._ordinary).share((_owner(*row), kind)).append(*row)
        self._ordinary.trim()
        self._notable.trim()

    def _refused(self, refusal: Kept, group: _Group) -> None:
        """Keep what was refused beside its refusal, if it is among the peer's latest."""
        talk, every = group
        owner = _owner(refusal, talk)
        for back in range(1, min(len(every), _LOOKED_BACK) + 1):
            kept = every[-back]
            if isinstance(kept, Kept) and _refuses(refusal, kept):
                del every[-back]
                self._notable.share((owner, "refusal")).append(kept, talk)
                return
        share = self._ordinary.share((owner, ""))
        for back in range(1, min(len(share), _LOOKED_BACK) + 1):
            kept = share.kept[-back]
            if isinstance(kept, Kept) and _refuses(refusal, kept):
                self._notable.share((owner, "refusal")).append(kept, share.holders[-back])
                del share.kept[-back], share.holders[-back]
                return

    # -- who is who --------------------------------------------------------------------------------------

    @staticmethod
    def _speaks(kept: Kept | KeptEvent, who: Reader) -> bool:
        """Whether it may say who the peer is; most do not, and are not decoded."""
        if isinstance(kept, KeptEvent):
            return True
        if kept.fault:
            return False
        if kept.secret is not None:
            return kept.secret.who is not None
        data = kept.data
        code = data[1]
        if code == _CHANGED:
            return who.awaits(kept, data[4 : 4 + (data[0] & 15)])
        return code == _CREATED or (code in (_POST, _DELETE) and _is_speaking(data))

    def _heard(self, kept: Kept | KeptEvent, place: _Place, who: Reader) -> Reading:
        known = self._known.get(place)
        if known is not None:
            who.meet(place, known)
        reading = who.feed(kept)
        if reading.talk.device:
            self._known[place] = reading.talk
            self._known.move_to_end(place)
            if len(self._known) > self._most_known:
                self._known.popitem(last=False)
        if isinstance(kept, KeptEvent) and kept.event.what == "closed":
            self._known.pop(place, None)
        return reading

    def _talk(self, place: _Place) -> Talk | None:
        if self._who is None:
            return None
        known = self._known.get(place)
        if known is None:
            return self._who.talk(place)
        self._known.move_to_end(place)
        return known


class _Share:
    """Rows of one owner. Two queues, as a tuple for each row would be twice the work of the garbage collector."""

    __slots__ = ("holders", "kept")

    def __init__(self) -> None:
        self.kept: deque[Kept | KeptEvent] = deque()
        self.holders: deque[Talk | Reading | None] = deque()

    def __repr__(self) -> str:
        return f"<share of {len(self)} rows>"

    def __len__(self) -> int:
        return len(self.kept)

    def rows(self) -> Iterator[Row]:
        return zip(self.kept, self.holders, strict=True)

    def append(self, kept: Kept | KeptEvent, holder: Talk | Reading | None) -> None:
        self.kept.append(kept)
        self.holders.append(holder)

    def extend(self, every: list[Kept | KeptEvent], talk: Talk | None) -> None:
        self.kept.extend(every)
        self.holders.extend(repeat(talk, len(every)))

    def trim(self, most: int) -> None:
        for _ in range(len(self) - most):
            self.kept.popleft()
            self.holders.popleft()


class _Rows:
    """Shares of rows, `most` in all."""

    def __init__(self, most: int) -> None:
        self.shares: dict[_Key, _Share] = {}
        self._most = most

    def __repr__(self) -> str:
        return f"<{self.count()} rows in {len(self.shares)} shares>"

    def count(self) -> int:
        return sum(map(len, self.shares.values()))

    def share(self, key: _Key) -> _Share:
        share = self.shares.get(key)
        if share is None:
            share = self.shares[key] = _Share()
        return share

    def trim(self) -> None:
        """Leave out the oldest rows of the largest shares, until there is no more than there may be."""
        if self.count() <= self._most:
            return
        level = _level(sorted(map(len, self.shares.values())), self._most)
        for key in [key for key, share in self.shares.items() if len(share) > level or not share]:
            share = self.shares[key]
            share.trim(level)
            if not share:
                del self.shares[key]
        if len(self.shares) > self._most:  # a row each is too much: those stay that spoke last
            spoke = sorted(self.shares, key=lambda key: self.shares[key].kept[-1].number)
            for key in spoke[: -self._most]:
                del self.shares[key]


def _owner(kept: Kept | KeptEvent, holder: Talk | Reading | None) -> str:
    talk = holder.talk if isinstance(holder, Reading) else holder
    if talk is not None and talk.device:
        return talk.device
    return f"host {hash(kept.peer[0]) % _HOSTS}"


def _level(sizes: list[int], most: int) -> int:
    """Return how much each may have at most, of these sizes in their order, so that all have `most` together."""
    for place, size in enumerate(sizes):
        level = most // (len(sizes) - place)
        if size > level:
            return max(level, 1)
        most -= size
    return max(sizes)


def _is_speaking(data: bytes) -> bool:
    at = 4 + (data[0] & 15)
    return data[at : at + 3] in _SPEAKING


def _kind(kept: Kept | KeptEvent) -> str:
    """Return as what a row outlasts others; "" of an ordinary one."""
    if isinstance(kept, KeptEvent):
        return _KINDS.get(kept.event.what, kept.event.what)
    if kept.fault:
        return "unreadable"
    data = kept.data
    code = data[1]
    if code >= _REFUSED or (code == 0 and data[0] >> 4 & 3 == RST):
        return "refusal"
    if code in (_CREATED, _DELETED) or (code in (_POST, _DELETE) and _is_speaking(data)):
        return "registration"
    return ""


def _refuses(refusal: Kept, kept: Kept) -> bool:
    if kept.direction == refusal.direction or (kept.endpoint, kept.peer) != (refusal.endpoint, refusal.peer):
        return False
    ours, theirs = refusal.data, kept.data
    if ours[1] == 0:
        return ours[2:4] == theirs[2:4]
    length = 4 + (ours[0] & 15)
    return 0 < theirs[1] < 32 and ours[0] & 15 == theirs[0] & 15 and ours[4:length] == theirs[4:length]
