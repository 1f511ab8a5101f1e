"""The parsers that take bytes of strangers, each with what must hold for any bytes at all.

A parser returns a value or raises its documented error; what it returns, written and read again, is the same.
Whatever else is raised is a finding.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import get_args

from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.coap.codec import Malformed, decode, encode
from pdmlab.coap.dtls_record import SUITES, Protection, number_of, split
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.framing import MAX_MESSAGE, BadFrame, Lengths
from pdmlab.coap.parameters import TransmissionParameters
from pdmlab.coap.recognition import framing_of
from pdmlab.coap.reliable import Reliable
from pdmlab.coap.transport import Address
from pdmlab.errors import Lwm2mError, NetworkError
from pdmlab.lwm2m import cbor, content, linkformat, omajson, senml, tlv
from pdmlab.lwm2m.attributes import NotificationAttributes
from pdmlab.lwm2m.paths import Path
from pdmlab.lwm2m.values import ResourceType
from tests.fuzz.payload_targets import PAYLOAD_TARGETS
from tests.fuzz.slot_targets import SLOT_TARGETS
from tests.fuzz.target import CORPUS, Target
from tests.fuzz.update_targets import UPDATE_TARGETS

__all__ = ["CORPUS", "TARGETS", "Target"]

PEER: Address = ("192.0.2.1", 5683)


# -- CoAP --------------------------------------------------------------------------------------------


def check_message(data: bytes) -> None:
    """Read a message; what was understood of it comes back from what is written."""
    try:
        message, unknown = decode(data, PEER)
    except Malformed as error:
        assert error.mid is None or 0 <= error.mid <= 0xFFFF
        return
    if message.code == 0 or message.opt.hop_limit == 0:
        return  # RFC 8768 has no hop limit of 0, and aiocoap writes it as nothing
    written = encode(message, message.mtype, message.mid, message.token)
    again, still_unknown = decode(written, PEER)
    assert still_unknown is None
    assert again.payload == message.payload
    assert encode(again, again.mtype, again.mid, again.token) == written
    assert unknown is None or unknown & 1


class _Nowhere:
    """A socket that counts what leaves."""

    address: Address = ("192.0.2.100", 5683)

    def __init__(self) -> None:
        self.sent = 0

    def send(self, data: bytes, address: Address) -> None:
        self.sent += 1
        assert 4 <= len(data) <= 1400

    def close(self) -> None:
        pass


class _Listening:
    """An endpoint with a small memory, outside of any loop that turns."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.socket = _Nowhere()
        parameters = TransmissionParameters(
            max_peers=8, duplicates=8, max_remembered=32, max_held=1 << 16, max_body=1 << 14, block_size=64
        )
        self.endpoint = self.loop.run_until_complete(
            Endpoint.open(self._open, self._answer, parameters=parameters, seed=1)
        )
        self.endpoint.on_unasked = lambda message, peer: len(message.token) == 2

    async def _open(self, on_message: Callable[[bytes, Address], None]) -> _Nowhere:
        return self.socket

    def _answer(self, request: Message, peer: Address) -> Message | None:
        if request.payload == b"never":
            return None
        return Message(code=codes.CONTENT, payload=bytes(200))


_listening: list[_Listening] = []


def check_endpoint(data: bytes) -> None:
    """Deliver datagrams: each is as long as the byte before it says, and from one of few peers."""
    if not _listening:
        _listening.append(_Listening())
    endpoint, socket = _listening[0].endpoint, _listening[0].socket
    at, before, delivered = 0, socket.sent, 0
    while at < len(data):
        size = data[at]
        endpoint._receiver.received(data[at + 1 : at + 1 + size], ("192.0.2.1", size % 16))
        at, delivered = at + 1 + size, delivered + 1
    assert socket.sent - before <= delivered  # nothing is amplified in number
    assert len(endpoint._peers) <= 8 and endpoint._peers._remembered <= 32
    assert endpoint._responder._uploads._uploads._held <= (1 << 16) + (1 << 15)
    assert not endpoint._transmissions and not endpoint._waiting and not endpoint._responder._serving


# -- streams -----------------------------------------------------------------------------------------


def check_stream(data: bytes) -> None:
    """Take a stream in one piece and in many: the same messages come, or it is refused both times."""
    if len(data) < 2:
        return
    step, stream = data[0] % 7 + 1, data[1:]
    for make in (Lengths, Reliable):
        whole, ended = _framed(make(), [stream])
        pieces, ended_too = _framed(make(), [stream[at : at + step] for at in range(0, len(stream), step)])
        assert (pieces == whole, ended) == (True, ended_too) if not ended else pieces[: len(whole)] == whole
    for records in (False, True):
        try:
            framing_of(stream, records=records)
        except BadFrame:
            pass


def _framed(framing: Lengths | Reliable, pieces: list[bytes]) -> tuple[list[bytes], bool]:
    messages: list[bytes] = []
    for piece in pieces:
        try:
            arrived = framing.receive(piece)
        except BadFrame:
            return messages, True
        assert len(framing._rest) <= MAX_MESSAGE + 16
        framing.take_back()
        for message in arrived:
            assert 4 <= len(message) <= MAX_MESSAGE + 16
            try:
                framing.send(bytes((0x60, 0x45)) + message[2:4])
            except NetworkError:
                pass
        framing.take_owed()
        messages += arrived
    return messages, False


# -- DTLS --------------------------------------------------------------------------------------------

_SUITE = SUITES["ECDHE-ECDSA-AES128-CCM8"]
_KEYS = bytes(16), bytes(4), b"\1" * 16, b"\1" * 4
_PEERS = Protection(_SUITE, (_KEYS[2], _KEYS[3], _KEYS[0], _KEYS[1]))
_SEALED = {_PEERS.seal(23, b"record %d" % number) for number in range(64)}


def check_records(data: bytes) -> None:
    """Cut a datagram into records and open them: only what the peer has sealed opens, once."""
    protection = Protection(_SUITE, _KEYS)
    records = list(split(data))
    assert sum(map(len, records)) <= len(data)
    for record in records:
        number_of(record)
        opened = protection.open(record)
        assert (opened is not None) <= (record in _SEALED)
        if opened is not None:
            assert protection.open(record) is None


# -- LwM2M -------------------------------------------------------------------------------------------


def check_tlv(data: bytes) -> None:
    """Read TLV; what was read, written and read again, is the same."""
    try:
        entries = tlv.decode(data)
    except Lwm2mError:
        return
    assert tlv.decode(tlv.encode(entries)) == entries


def check_links(data: bytes) -> None:
    """Read a registration's links, and a list with its root."""
    try:
        links = linkformat.parse_links(data)
    except Lwm2mError:
        pass
    else:
        again = linkformat.parse_links(linkformat.format_links(links))
        assert again == links, (links, again)
    try:
        linkformat.parse_list(data)
    except Lwm2mError:
        pass


def check_senml_json(data: bytes) -> None:
    """Read SenML in JSON."""
    _check_senml(data, binary=False)


def check_senml_cbor(data: bytes) -> None:
    """Read SenML in CBOR."""
    _check_senml(data, binary=True)


def _check_senml(data: bytes, *, binary: bool) -> None:
    try:
        records = senml.read(data, binary=binary)
    except Lwm2mError:
        return
    try:
        written = senml.write(records, binary=binary)
    except Lwm2mError:
        return  # not all that may be read can be told again, such as a name without a value
    assert senml.read(written, binary=binary) == records


def check_old_json(data: bytes) -> None:
    """Read LwM2M's old JSON."""
    try:
        omajson.read(data, "/3/0")
    except Lwm2mError:
        pass


def check_cbor(data: bytes) -> None:
    """Read CBOR; what was read, written and read again, is the same."""
    try:
        item = cbor.loads(data)
    except Lwm2mError:
        return
    try:
        written = cbor.dumps(item)
    except Lwm2mError:
        return
    assert _same(cbor.loads(written), item)


def _same(one: object, other: object) -> bool:
    """Whether two items are the same; a NaN is itself."""
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return one == other or repr(one) == repr(other)


_TYPES: tuple[ResourceType, ...] = get_args(ResourceType)
_FORMATS = (None, *sorted(content.FORMAT_NAMES), 4711)


def check_value(data: bytes) -> None:
    """Read a resource's payload: the first two bytes pick its type and its format."""
    if len(data) < 2:
        return
    kind, format = _TYPES[data[0] % len(_TYPES)], _FORMATS[data[1] % len(_FORMATS)]
    path = Path.of(3, 0, 1)
    try:
        value = content.decode(data[2:], kind, format, path)
    except Lwm2mError:
        return
    if format in (content.TEXT, content.TLV, content.OPAQUE) and not isinstance(value, dict):
        try:
            written = content.encode(value, kind, format, path)
        except Lwm2mError:
            return
        assert _same(content.decode(written, kind, format, path), value)


def check_attributes(data: bytes) -> None:
    """Read a path, and notification attributes as they come in queries."""
    text = data.decode("utf-8", "replace")
    try:
        path = Path.parse(text)
    except Lwm2mError:
        pass
    else:
        assert Path.parse(str(path)) == path
    for version in ("1.0", "1.1"):
        try:
            NotificationAttributes().updated(text.split("&"), version=version)
        except Lwm2mError:
            pass


TARGETS = {
    target.name: target
    for target in (
        Target("coap", check_message, longest=256, weight=0.5),
        Target("endpoint", check_endpoint, weight=0.2),  # one input has many datagrams
        Target("streams", check_stream),
        Target("dtls", check_records, longest=256),
        Target("tlv", check_tlv),
        Target("links", check_links),
        Target("senml-json", check_senml_json),
        Target("senml-cbor", check_senml_cbor),
        Target("old-json", check_old_json),
        Target("cbor", check_cbor),
        Target("values", check_value),
        Target("attributes", check_attributes, longest=256),
        *UPDATE_TARGETS,
        *PAYLOAD_TARGETS,
        *SLOT_TARGETS,
    )
}
