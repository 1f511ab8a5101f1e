"""A server that speaks bytes: what each record must be, and what is sent; its TLS is Python's own.

A transcript is a line a record. `<` is what the device must send, `>` what the server sends. Both are hex, with text in
quotes. mid1 and tok1 (any number) stand for a message ID (2 B) and a token (4 B) of the device's: what they are when
they are met first, they must be ever after. `...` at the end of a line is anything. What follows `#` is for people.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from pathlib import Path

from pdmlab.network.bytestream import ByteStream
from tests.client.pki import Authority, write_pem

SUITE = "ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0"
_TOKEN = re.compile(r'"([^"]*)"|(mid|tok)(\d+)|(\.\.\.)|((?:[0-9a-f]{2})+)|(\s+)')
_SIZE = {"mid": 2, "tok": 4}


class Ended(Exception):
    """The device has closed the connection."""


class PlainEnd:
    """One end of a stream in the stock client's plain framing: four bytes of length before each message."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._buffer = b""

    async def open(self) -> None:
        pass

    async def read(self) -> bytes:
        while len(self._buffer) < 4 or len(self._buffer) < 4 + int.from_bytes(self._buffer[:4], "big"):
            more = await self._stream.read(4096)
            if not more:
                raise Ended
            self._buffer += more
        size = int.from_bytes(self._buffer[:4], "big")
        message, self._buffer = self._buffer[4 : 4 + size], self._buffer[4 + size :]
        return message

    async def write(self, message: bytes) -> None:
        await self._stream.write(len(message).to_bytes(4, "big") + message)

    def close(self) -> None:
        self._stream.close()


class TlsEnd:
    """One end of a stream in TLS: each record is a message."""

    def __init__(self, stream: ByteStream, context: ssl.SSLContext) -> None:
        self._stream = stream
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_side=True)

    async def open(self) -> None:
        await self._drive(self.tls.do_handshake)

    async def read(self) -> bytes:
        if not (message := await self._drive(lambda: self.tls.read(1 << 14))):
            raise Ended  # a close_notify
        return message

    async def write(self, message: bytes) -> None:
        await self._drive(lambda: self.tls.write(message))

    async def _drive(self, step: Callable[[], object]) -> bytes:
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                await self._flush()
                data = await self._stream.read(4096)
                if not data:
                    raise Ended from None
                self._in.write(data)
            except ssl.SSLError:
                await self._flush()  # the alert
                raise
            else:
                await self._flush()
                return result if isinstance(result, bytes) else b""

    async def _flush(self) -> None:
        if data := self._out.read():
            await self._stream.write(data)

    def close(self) -> None:
        self._stream.close()


End = PlainEnd | TlsEnd


def server_context(folder: Path, ca: Authority, certificate: bytes, key: bytes, *more: bytes) -> ssl.SSLContext:
    """Make what a server of Python's own needs to speak with the stock client (docs/wire.md 1.3)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(SUITE)
    context.options |= ssl.OP_NO_TICKET
    context.load_cert_chain(*write_pem(folder, certificate, key, *more))
    context.load_verify_locations(cadata=ca.certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


class Script:
    """Plays transcripts over one connection."""

    def __init__(self, end: End) -> None:
        self.end = end
        self.known: dict[str, bytes] = {}
        self.rest = b""
        """What `...` stood for, last."""

    async def play(self, transcript: str) -> None:
        """Expect and send, line by line."""
        for line in transcript.strip().splitlines():
            text = line.split("#")[0].strip()
            if text.startswith("<"):
                self.match(await self.end.read(), text[1:])
            elif text.startswith(">"):
                await self.end.write(self.bytes_of(text[1:]))

    def match(self, data: bytes, pattern: str) -> None:
        """Hold a record against a line."""
        at = 0
        for found in _TOKEN.finditer(pattern):
            text, kind, number, rest, raw, _ = found.groups()
            if rest:
                self.rest = data[at:]
                return
            if kind:
                name, size = f"{kind}{number}", _SIZE[kind]
                expected = self.known.setdefault(name, data[at : at + size])
            elif text is not None or raw:
                expected = text.encode() if text is not None else bytes.fromhex(raw)
            else:
                continue
            got = data[at : at + len(expected)]
            assert got == expected, f"byte {at} of {data.hex(' ')}\nexpected {pattern}\nat {expected!r} is {got!r}"
            at += len(expected)
        assert at == len(data), f"more than expected: {data[at:].hex(' ')} after {pattern}"

    def bytes_of(self, pattern: str) -> bytes:
        """Return what a line stands for."""
        made = b""
        for found in _TOKEN.finditer(pattern):
            text, kind, number, _, raw, _ = found.groups()
            if kind:
                made += self.known[f"{kind}{number}"]
            elif text is not None:
                made += text.encode()
            elif raw:
                made += bytes.fromhex(raw)
        return made
