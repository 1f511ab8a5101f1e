"""A device as the stock client is on the wire, in bytes: Python's own ssl and blocking sockets, nothing of pdmlab.

One CoAP message is one TLS record (or one UDP datagram, or 4 bytes of length and a frame on plain TCP); one cipher
suite, no host name, no ALPN; Max-Age: 0 in what it sends, and an empty ACK of five bytes.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from aiocoap import Message
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PATIENCE = 60.0  # s that the service may take: it is on the same machine
BLOCK = 512


class Line(Protocol):
    """A way to the server, of whole messages."""

    def send(self, message: bytes) -> None: ...

    def receive(self) -> bytes: ...

    def close(self) -> None: ...


class TlsLine:
    """TLS 1.2 with TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8; one message a record, both ways."""

    def __init__(
        self,
        address: tuple[str, int],
        identity: Identity,
        folder: Path,
        *,
        session: ssl.SSLSession | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.context = context or identity.context(folder)
        plain = socket.create_connection(address, PATIENCE)
        try:
            self._socket = self.context.wrap_socket(plain, session=session)
        except BaseException:
            plain.close()
            raise
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def session(self) -> ssl.SSLSession | None:
        return self._socket.session

    @property
    def resumed(self) -> bool:
        return bool(self._socket.session_reused)

    def send(self, message: bytes) -> None:
        self._socket.sendall(message)

    def receive(self) -> bytes:
        record = self._socket.recv(4096)
        assert len(record) <= 1152, "the device's buffer has 1152 B: a longer record is cut in two"
        if not record:
            raise EOFError("the server closed the connection")
        return record

    def close(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._socket.settimeout(1)
            self._socket.unwrap()
        self._socket.close()


class TcpLine:
    """Plain TCP: a length of 4 bytes, big-endian, before each message."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.create_connection(address, PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, message: bytes) -> None:
        self._socket.sendall(struct.pack(">I", len(message)) + message)

    def receive(self) -> bytes:
        data = self._socket.recv(4096)
        if not data:
            raise EOFError("the server closed the connection")
        (length,) = struct.unpack_from(">I", data)
        assert len(data) == 4 + length, "one whole frame has to be there in one recv(), and no more than one"
        return data[4:]

    def close(self) -> None:
        self._socket.close()


class UdpLine:
    """UDP: a datagram a message."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.settimeout(PATIENCE)
        self._socket.connect(address)

    def send(self, message: bytes) -> None:
        self._socket.send(message)

    def receive(self) -> bytes:
        return self._socket.recv(2048)

    def close(self) -> None:
        self._socket.close()


@dataclass
class Identity:
    """Certificate, key and CA of a device (DER); `above`: certificates that lead to the CA of its own."""

    certificate: bytes
    private_key: bytes
    ca: bytes
    above: tuple[bytes, ...] = ()

    def context(self, folder: Path) -> ssl.SSLContext:
        """Return what the stock client asks of TLS, and no more."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0")
        context.options |= ssl.OP_NO_TICKET
        context.load_verify_locations(cadata=self.ca)
        key = serialization.load_der_private_key(self.private_key, None)
        chain, secret = folder / "device.pem", folder / "device.key"
        chain.write_text("".join(map(ssl.DER_cert_to_PEM_cert, (self.certificate, *self.above))))
        secret.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        context.load_cert_chain(chain, secret)
        return context


class Device:
    """What one device says and hears on a line."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self._mid = 0x0100

    def ask(self, head: bytes, options: bytes, payload: bytes = b"", token: bytes = b"\xa1\xa2\xa3\xa4") -> Message:
        """Send a CON with a token of 4 B, and return the ACK with its answer."""
        mid = self.next_mid()
        self.line.send(b"\x44" + head + mid + token + options + (b"\xff" + payload if payload else b""))
        answer = Message.decode(self.line.receive())
        assert answer.mid == int.from_bytes(mid, "big") and answer.token == token, answer
        return answer

    def next_mid(self) -> bytes:
        self._mid += 1
        return self._mid.to_bytes(2, "big")

    def hear(self) -> Message:
        """Return the next message that the server sends by itself."""
        return Message.decode(self.line.receive())

    def answer(self, request: Message, code: int, options: bytes = b"\xd0\x01", payload: bytes = b"") -> None:
        """Answer with the ACK; Max-Age: 0 is (14 = 13 + 1) d0 01."""
        mid = request.mid.to_bytes(2, "big")
        self.line.send(
            b"\x64" + bytes([code]) + mid + request.token + options + (b"\xff" + payload if payload else b"")
        )

    def acknowledge_in_five_bytes(self, request: Message) -> None:
        """Send the stock client's empty ACK."""
        self.line.send(b"\x60\x00" + request.mid.to_bytes(2, "big") + b"\xc0")

    def say(self, code: int, token: bytes, options: bytes = b"\xd0\x01", payload: bytes = b"") -> None:
        """Send a CON of the device's own, and take its ACK."""
        mid = self.next_mid()
        head = bytes([0x40 | len(token), code])
        self.line.send(head + mid + token + options + (b"\xff" + payload if payload else b""))
        assert self.line.receive() == b"\x60\x00" + mid, "the server acknowledges it with four bytes"

    # -- bootstrap ---------------------------------------------------------------------------------------

    def bootstrap(self, endpoint_name: str, account: str, device_id: str | None = None) -> dict[int, bytes]:
        """Ask, take what is written, and answer the finish; return the resources of security instance 0."""
        options = b"\xb2bs\x30" + query(f"ep={endpoint_name}", 1) + query(f"aid={account}")
        if device_id is not None:
            options += query(f"iep={device_id}")
        answer = self.ask(b"\x02", options + query("mccv=4.13.2"))
        assert answer.code.dotted == "2.04", answer
        security: dict[int, bytes] = {}
        while True:
            request = self.hear()
            path = request.opt.uri_path
            if request.code.name == "DELETE":
                assert path == ("0",)
                self.answer(request, 0x42)
            elif request.code.name == "PUT" and path == ("0",):
                assert not security, "exactly one PUT /0"
                security = security_of(self.take_blocks(request))
            elif request.code.name == "PUT":
                self.take_blocks(request)
            else:
                assert request.code.name == "POST" and path == ("bs",), request
                self.acknowledge_in_five_bytes(request)
                self.say(0x44, request.token)
                self.finish = request
                return security

    def take_blocks(self, request: Message) -> bytes:
        """Take a payload in Block1 blocks of one token; answer 2.31 to each, and 2.04 to the last."""
        payload, token = b"", request.token
        while True:
            block = request.opt.block1
            assert len(request.payload) <= BLOCK, "a single payload of more than 512 B would be 4.13"
            assert request.token == token, "the stock client knows blocks by their token"
            payload += request.payload
            if block is None:
                self.answer(request, 0x44)
                return payload
            assert block.size_exponent <= 5 and block.start == len(payload) - len(request.payload)
            value = block.block_number << 4 | block.more << 3 | block.size_exponent
            echo = bytes([value]) if value < 256 else value.to_bytes(2, "big")
            options = b"\xd0\x01" + bytes([0xD0 | len(echo), 0]) + echo  # 14, then 27
            self.answer(request, 0x5F if block.more else 0x44, options)
            if not block.more:
                return payload
            request = self.hear()

    def enrol(self, name: str, device_id: str, account: str) -> tuple[list[bytes], bytes]:
        """Make a key, and have it certified by POST /est/sen; return the chain (DER) and the key (DER)."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.LOCALITY_NAME, device_id),
                x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, account),
                x509.NameAttribute(NameOID.COMMON_NAME, name),
            ]
        )
        csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
        wanted = csr.public_bytes(serialization.Encoding.DER)
        token, body, number = b"\xe5\xe5\xe5\xe5", b"", 0
        while True:
            # POST /est/sen, Content-Format 0, Block2 n/0/512; the blocks after the first are asked for without payload
            block = bytes([number << 4 | 5])
            answer = self.ask(b"\x02", b"\xb3est\x03sen\x10\xb1" + block, b"" if number else wanted, token)
            assert answer.code.is_successful(), answer
            body += answer.payload
            told = answer.opt.block2
            if told is None or not told.more:
                break
            assert told.block_number == number and (number or answer.opt.size2 is not None)
            number += 1
        assert body[0] == 1, "the version of the chain's framing"
        chain, at = [], 2
        for _ in range(body[1]):
            (length,) = struct.unpack_from(">H", body, at)
            chain.append(body[at + 2 : at + 2 + length])
            at += 2 + length
        assert at == len(body)
        secret = key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return chain, secret

    def fetch(self, uri: str) -> bytes:
        """GET /fw with Proxy-Uri, block by block, a new token each."""
        image, number = b"", 0
        while True:
            value = number << 4 | 5
            block = bytes([value]) if value < 256 else value.to_bytes(2, "big")
            options = b"\xb2fw\x10\x20" + bytes([0x90 | len(block)]) + block + _option(12, uri.encode())
            answer = self.ask(b"\x01", options, token=b"\xf0\xf0" + number.to_bytes(2, "big"))
            assert answer.code.dotted == "2.05" and answer.opt.block2.block_number == number, answer
            image += answer.payload
            assert answer.opt.size2 is not None
            if not answer.opt.block2.more:
                return image
            number += 1

    # -- registration ------------------------------------------------------------------------------------

    def register(self, endpoint_name: str, account: str, links: bytes, aid: str | None, *more: str) -> tuple[str, ...]:
        """POST /rd in blocks of 512 B and one token; return the location."""
        queries = [f"ep={endpoint_name}", "et=default", "lt=7200", "lwm2m=1.0"]
        queries += [f"d={account}"] if aid is not None else []
        queries += ["b=U", *([f"aid={aid}"] if aid is not None else []), *more]
        token = b"\xd1\xd2\xd3\xd4"
        for start in range(0, len(links), BLOCK):
            left = start + BLOCK < len(links)
            value = start // BLOCK << 4 | left << 3 | 5
            options = b"\xb2rd\x11\x28\x20" + query(queries[0], 1) + b"".join(map(query, queries[1:]))
            options += bytes([0xC1, value])
            if start == 0:
                options += b"\xd2\x14" + len(links).to_bytes(2, "big")  # Size1: 60 = 27 + 13 + 20
            answer = self.ask(b"\x02", options, links[start : start + BLOCK], token)
            if left:
                assert answer.code.dotted == "2.31" and answer.opt.block1.block_number == start // BLOCK, answer
        assert answer.code.dotted == "2.01" and answer.opt.max_age is None, answer
        return tuple(answer.opt.location_path)

    def update(self, location: tuple[str, ...]) -> str:
        """POST to the location; return the code."""
        options = b"\xb2rd" + path_part(location[1]) + path_part(location[2]) + b"\x11\x28\x20" + query("et=default", 1)
        return str(self.ask(b"\x02", options).code.dotted)


def query(text: str, delta: int = 0) -> bytes:
    """Write a Uri-Query option (the first after Max-Age has delta 1)."""
    return _option(delta, text.encode())


def path_part(text: str) -> bytes:
    """Write one more Uri-Path option."""
    return _option(0, text.encode())


def _option(delta: int, value: bytes) -> bytes:
    if len(value) < 13:
        return bytes([delta << 4 | len(value)]) + value
    return bytes([delta << 4 | 13, len(value) - 13]) + value


def security_of(payload: bytes) -> dict[int, bytes]:
    """Read PUT /0: one object instance, id 0, of resources; the last one has to be known (10)."""
    kind, identifier, length, at = payload[0], payload[1], *_length(payload)
    assert kind & 0xE0 == 0 and identifier == 0, "the object-instance form, instance 0"
    assert at + length == len(payload)
    found: dict[int, bytes] = {}
    while at < len(payload):
        head = payload[at]
        assert head & 0xC0 == 0xC0 and not head & 0x20, "resources with ids of one byte"
        size = head >> 3 & 3
        length = int.from_bytes(payload[at + 2 : at + 2 + size], "big") if size else head & 7
        start = at + 2 + size
        found[payload[at + 1]] = payload[start : start + length]
        assert length <= 1024, "MAX_CERTIFICATE_SIZE"
        last, at = payload[at + 1], start + length
    assert last == 10, "the last item's status is the PUT's"
    return found


def _length(payload: bytes) -> tuple[int, int]:
    size = payload[0] >> 3 & 3
    return int.from_bytes(payload[2 : 2 + size], "big") if size else payload[0] & 7, 2 + size
