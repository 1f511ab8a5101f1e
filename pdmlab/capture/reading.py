"""From what a log kept to its rows: which message answers which, came again, or was never acknowledged.

A `Reader` takes kept messages in their order and knows at each what came before; a row made later knows also what
came after. Its tables are bounded, so that it can follow a log for ever.
"""

from __future__ import annotations

from pdmlab.capture.dialect import Body, Dialect, Who
from pdmlab.capture.kept import Event, Kept, KeptEvent, scheme_of
from pdmlab.capture.parts import (
    ACK,
    BLOCK1,
    BLOCK2,
    CON,
    CONTENT_FORMAT,
    LOCATION_PATH,
    RST,
    SIZE1,
    SIZE2,
    URI_PATH,
    Parts,
)
from pdmlab.capture.rows import HINT, LoggedMessage
from pdmlab.capture.talks import Exchange, Reading, Table, Talk
from pdmlab.capture.words import TYPES, as_text, code_in_words, options_in_words, preview, shown

LIFETIME = 247 * 10**9
"""How long a message ID means the same message (ns): EXCHANGE_LIFETIME of RFC 7252 section 4.8.2."""
LONGEST_BODY = 16 << 10  # B of blocks that are put together
LONGEST_ID = 128  # characters of an id or a name
LONGEST_WORDS = 600  # characters of a payload in words


FOLLOWING = 4_000
"""What a reader that never ends remembers: peers decide what they send, and not how much is kept of it."""


class Reader:
    """Reads a log from its beginning, or follows it."""

    def __init__(self, dialect: Dialect, *, own: bool = False, most: int = 40_000) -> None:
        """Make one.

        own     all of the log is about the device whose it is, whomever that talked to
        most    of each, talks, exchanges and messages, that it remembers
        """
        self._dialect = dialect
        self._own = Talk() if own else None
        self._talks: Table[tuple[str, tuple[str, int]], Talk] = Table(most)
        self._exchanges: Table[tuple[str, tuple[str, int], bytes, str], Exchange] = Table(most)
        self._messages: Table[tuple[str, tuple[str, int], str, int, bool], Reading] = Table(most)
        self._begun: Table[tuple[str, str, str, int], Reading] = Table(most)  # handshakes
        self._tokens: Table[str, dict[bytes, str]] = Table(most)  # device id -> its auto-observations

    def __repr__(self) -> str:
        return f"<Reader of {len(self._talks)} talks, {len(self._exchanges)} exchanges>"

    def talk(self, place: tuple[str, tuple[str, int]]) -> Talk:
        """Return the talk that is under way between an endpoint and a peer."""
        talk = self._own or self._talks.get(place)
        if talk is None:
            talk = self._talks[place] = Talk()
        return talk

    def meet(self, place: tuple[str, tuple[str, int]], talk: Talk) -> None:
        """Know who the peer is; what comes next is of this talk."""
        if self._talks.get(place) is not talk:
            self._talks[place] = talk

    def awaits(self, kept: Kept, token: bytes) -> bool:
        """Whether a response's token is of a request that was seen."""
        asked = "out" if kept.direction == "in" else "in"
        return (kept.endpoint, kept.peer, token, asked) in self._exchanges

    def feed(self, kept: Kept | KeptEvent) -> Reading:
        """Take what comes next."""
        place = kept.endpoint, kept.peer
        talk = self.talk(place)
        reading = Reading(kept, talk)
        if isinstance(kept, KeptEvent):
            self._happened(reading, kept.event)
            return reading
        if kept.fault:  # it acknowledges nothing, and may be reset
            self._messages[(*place, "in", reading.parts.mid, False)] = reading
            return reading
        self._delivered(reading, kept)
        if reading.parts.is_request:
            self._asked(reading, kept)
        elif reading.parts.is_response:
            self._answered(reading, kept)
        if kept.secret is not None and kept.secret.who is not None:
            self._is(reading, kept.secret.who)
        return reading

    def row(self, reading: Reading) -> LoggedMessage:
        """Return the row of a message, with all that is known of it by now."""
        kept, device, name = reading.kept, shown(reading.talk.device, LONGEST_ID), shown(reading.talk.name, LONGEST_ID)
        host, port = kept.peer
        peer = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        scheme = scheme_of(kept.peer)
        if isinstance(kept, KeptEvent):
            event = kept.event
            words = _said(event)
            if event.mid >= 0 and reading.first is not None:
                words = _given_up(kept, reading.first[0]) + (f": {words}" if words else "")
            return LoggedMessage(
                kept.number, kept.time_ns, kept.clock, kept.endpoint, device, name, "", scheme, peer,
                _CARRIERS.get(scheme, "UDP"), event.what, max(event.mid, 0), "", reading.path, "",
                event.reason or _how(event), 0, shown(words, LONGEST_WORDS),
            )  # fmt: skip
        exchange, parts = reading.exchange, reading.parts
        path = shown("/" + "/".join(exchange.path)) if exchange is not None and exchange.path else reading.path
        first, transmission = reading.first or (reading, 1)
        return LoggedMessage(
            number=kept.number,
            time_ns=kept.time_ns,
            clock=kept.clock,
            endpoint=kept.endpoint,
            device=device,
            name=name,
            direction=kept.direction,
            scheme=scheme,
            peer=peer,
            type="" if kept.fault and not _is_coap(kept) else TYPES[parts.type],
            code="unreadable" if kept.fault else code_in_words(parts),
            mid=parts.mid,
            token="" if kept.fault else parts.token.hex(),
            path=path,
            query=shown("?" + "&".join(exchange.query)) if exchange is not None and exchange.query else "",
            options="" if kept.fault else options_in_words(parts, reading.about),
            payload_B=kept.size if kept.fault else parts.size,
            payload=self._payload(reading, kept),
            transmission=transmission,
            transmissions=1 + first.again,
            answers=reading.answers.kept.number if reading.answers is not None else None,
            round_trip_ms=None if reading.since is None else (kept.time_ns - reading.since) / 1e6,
            outcome=reading.outcome or first.outcome,
        )

    # -- delivery ----------------------------------------------------------------------------------------

    def _delivered(self, reading: Reading, kept: Kept) -> None:
        """Find what it repeats, and what it acknowledges."""
        parts = reading.parts
        is_reply = parts.type in (ACK, RST)
        key = kept.endpoint, kept.peer, kept.direction, parts.mid, is_reply
        before = self._messages.get(key)
        if before is not None and isinstance(before.kept, Kept) and _same(before.kept, kept):
            before.again += 1
            reading.first = before, before.again + 1
            reading.since = None
            return
        self._messages[key] = reading
        if not is_reply:
            return
        other = "in" if kept.direction == "out" else "out"
        confirmed = self._messages.get((kept.endpoint, kept.peer, other, parts.mid, False))
        if confirmed is None:
            return
        if confirmed.parts.type == CON and confirmed.outcome in ("", "never acknowledged"):
            confirmed.outcome = "reset" if parts.type == RST else "acknowledged"
            reading.since = confirmed.kept.time_ns
        if parts.code == 0:  # an empty message is about what it acknowledges
            reading.exchange, reading.path = confirmed.exchange, confirmed.path

    # -- requests and responses --------------------------------------------------------------------------

    def _asked(self, reading: Reading, kept: Kept) -> None:
        parts = reading.parts
        key = kept.endpoint, kept.peer, parts.token, kept.direction
        path = parts.texts(URI_PATH)
        exchange = self._exchanges.get(key)
        if exchange is None or (exchange.path, exchange.code) != (path, parts.code):
            exchange = self._exchanges[key] = Exchange(parts, path)
        reading.exchange = exchange
        if reading.first is not None:
            reading.about, reading.body = reading.first[0].about, reading.first[0].body
            return
        exchange.request = reading
        self._body(reading, exchange.sent, BLOCK1, SIZE1)
        body = self._whole(reading)
        if body is not None:
            who = self._dialect.who(body)
            if who is not None:
                self._is(reading, who)

    def _answered(self, reading: Reading, kept: Kept) -> None:
        parts = reading.parts
        asked = "out" if kept.direction == "in" else "in"
        exchange = self._exchanges.get((kept.endpoint, kept.peer, parts.token, asked))
        if exchange is None:
            tokens = reading.talk.tokens or self._tokens.get(reading.talk.device, {})
            reading.path = tokens.get(parts.token, "")
            return
        reading.exchange = exchange
        request = exchange.request
        if reading.first is not None:
            reading.about, reading.body = reading.first[0].about, reading.first[0].body
            return
        self._body(reading, exchange.told, BLOCK2, SIZE2)
        if request is None:
            return
        exchange.request = None  # what comes by this token after its answer are notifications
        reading.answers = request
        reading.since = request.kept.time_ns
        if request.parts.type == CON and request.outcome in ("", "never acknowledged"):
            request.outcome = "acknowledged"  # RFC 7252 section 5.2.2: a response acknowledges too
        body = self._whole(reading)
        if body is None:
            return
        who = self._dialect.who(body)
        if who is not None:
            self._is(reading, who)
        if parts.code < 96 and request.body is not None:
            asked_body = self._whole(request)
            tokens = dict(self._dialect.tokens(asked_body)) if asked_body is not None else {}
            if tokens:
                reading.talk.tokens = tokens
                self._tokens[reading.talk.device] = reading.talk.tokens

    def _body(self, reading: Reading, together: bytearray, block: int, size: int) -> None:
        """Put blocks together: the body of the last one is whole if all were kept."""
        exchange, parts = reading.exchange, reading.parts
        assert exchange is not None
        announced = parts.number(size)
        if announced is not None:
            exchange.size[size] = announced
        found = parts.block(block)
        whole = len(parts.payload) == parts.size
        if found is None:
            reading.body = parts.payload if whole else None
            return
        number, more, length = found
        total = exchange.size.get(size)
        reading.about = -(-total // length) if total else None
        if number == 0:
            together.clear()
        if not whole or len(together) != number * length or len(together) + parts.size > LONGEST_BODY:
            together.clear()
            return
        together += parts.payload
        if not more:
            reading.body = bytes(together)
            together.clear()

    def _whole(self, reading: Reading) -> Body | None:
        exchange, parts = reading.exchange, reading.parts
        if exchange is None:
            return None
        return Body(
            exchange.path,
            exchange.query,
            exchange.code,
            parts.code if parts.code >= 64 else None,
            parts.number(CONTENT_FORMAT),
            reading.body or b"",
            parts.texts(LOCATION_PATH),
        )

    # -- whom it is about --------------------------------------------------------------------------------

    def _is(self, reading: Reading, who: Who) -> None:
        """Know whom a talk is with, from its beginning; somebody else at the same address begins another."""
        talk = reading.talk
        other = (who.device and talk.device and who.device != talk.device) or (
            who.name and talk.name and who.name != talk.name and not (who.device and who.device == talk.device)
        )
        if other and self._own is None:
            talk = Talk()
            self._talks[reading.kept.endpoint, reading.kept.peer] = talk
            reading.talk = talk
            if reading.answers is not None:
                reading.answers.talk = talk
        talk.device = who.device or talk.device
        talk.name = who.name or talk.name

    # -- events ------------------------------------------------------------------------------------------

    def _happened(self, reading: Reading, event: Event) -> None:
        kept, begun = reading.kept, None
        place = kept.endpoint, scheme_of(kept.peer), *kept.peer
        if event.what == "handshake started":
            self._begun[place] = reading
        elif event.what == "handshake completed":
            begun = self._begun.pop(place, None)
        if event.who is not None:
            self._is(reading, event.who)
        if begun is not None:
            begun.talk = reading.talk  # a connection has the name by which it is told from others only now
        if event.mid >= 0:
            given_up = self._messages.get((reading.kept.endpoint, reading.kept.peer, "out", event.mid, False))
            if given_up is not None:
                reading.exchange = given_up.exchange
                reading.first = given_up, 1
                reading.path = shown("/" + "/".join(given_up.exchange.path)) if given_up.exchange is not None else ""
                if given_up.outcome == "":
                    given_up.outcome = "never acknowledged"

    # -- payloads ----------------------------------------------------------------------------------------

    def _payload(self, reading: Reading, kept: Kept) -> str:
        parts = reading.parts
        if kept.fault:
            rest = "" if len(kept.data) == kept.size else "…"
            return shown(f"{kept.fault}; it begins {kept.data.hex(' ')}{rest}", LONGEST_WORDS)
        if not parts.size:
            return ""
        if kept.secret is not None:
            return shown(kept.secret.words, LONGEST_WORDS)
        body = self._whole(reading)
        if body is not None and body.payload:
            words = self._dialect.words(body)
            if words is not None:
                joined = f"together {len(body.payload)} B: " if len(body.payload) > parts.size else ""
                return shown(joined + words, LONGEST_WORDS)
        elif _is_block(parts) and as_text(parts.payload[:64]) is None:
            return ""  # a part of something binary says nothing
        return preview(parts.payload)


_CARRIERS = {"coap": "UDP", "coaps": "DTLS", "coap+tcp": "TCP", "coaps+tcp": "TLS"}


def _how(event: Event) -> str:
    if event.what != "handshake completed":
        return ""
    return "resumed" if event.resumed else "full"


def _said(event: Event) -> str:
    return event.words + (f"{HINT}{event.hint})" if event.hint else "")


def _given_up(kept: KeptEvent, first: Reading) -> str:
    seconds = (kept.time_ns - first.kept.time_ns) / 1e9
    times = f"{first.again + 1} transmissions" if first.again else "1 transmission"
    return f"{code_in_words(first.parts)} was not acknowledged after {times} in {seconds:.3g} s"


def _is_coap(kept: Kept) -> bool:
    return len(kept.data) >= 4 and kept.data[0] >> 6 == 1


def _is_block(parts: Parts) -> bool:
    block = parts.block(BLOCK1 if parts.is_request else BLOCK2)
    return block is not None and (block[0] > 0 or block[1])


def _same(before: Kept, now: Kept) -> bool:
    """Whether a message is one that was there before: with its ID alone it may be another, of a peer that restarted."""
    return before.data == now.data and before.size == now.size and now.time_ns - before.time_ns < LIFETIME
