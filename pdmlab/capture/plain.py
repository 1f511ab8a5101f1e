"""A log's messages in a pcapng file: plain CoAP, though it went over TLS, DTLS or TCP.

Each is a packet of link type 252 (Wireshark's "exported PDU"): the message itself with the addresses and ports that it
went between, and the note that it is CoAP. Wireshark so dissects it on any port, and matches requests and responses.
"""

from __future__ import annotations

import ipaddress
import struct
import threading
from collections.abc import Iterable
from html import escape
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pdmlab.capture.files import MOST_B
from pdmlab.capture.kept import Kept, KeptEvent, scheme_of
from pdmlab.capture.pcapng import PcapngFile
from pdmlab.errors import NetworkError

if TYPE_CHECKING:
    from pdmlab.capture.message_log import MessageLog

LINKTYPE_UPPER_PDU = 252  # www.tcpdump.org/linktypes.html
DISSECTOR, IPV4, IPV6, PORT_TYPE, PORTS, END = 12, (20, 21), (22, 23), 24, (25, 26), 0  # wsutil/exported_pdu_tlvs.h
PORT_TYPE_UDP = 3  # of that file, not the protocol's number
NOBODY = ("0.0.0.0", 0)


def packet(kept: Kept) -> tuple[bytes, int]:
    """Return a message in Wireshark's exported PDU, and how long the whole of it was (B)."""
    here = kept.here.get(scheme_of(kept.peer), NOBODY)
    source, target = (kept.peer, here) if kept.direction == "in" else (here, kept.peer)
    left_out = kept.size - len(kept.data)
    data, left_out = (kept.data, left_out) if kept.secret is None else (kept.data + b"*" * left_out, 0)
    addresses = [_ip(source[0]), _ip(target[0])]
    if addresses[0].version != addresses[1].version:  # NOBODY's
        addresses = [_as_v6(each) for each in addresses]
    tags = IPV4 if addresses[0].version == 4 else IPV6
    head = _tag(DISSECTOR, b"coap")
    head += b"".join(_tag(tag, address.packed) for tag, address in zip(tags, addresses, strict=True))
    head += _tag(PORT_TYPE, struct.pack("!I", PORT_TYPE_UDP))
    head += b"".join(_tag(tag, struct.pack("!I", end[1])) for tag, end in zip(PORTS, (source, target), strict=True))
    whole = head + _tag(END, b"") + data
    return whole, len(whole) + left_out


def comment(kept: Kept) -> str:
    """Return what stands beside the message in Wireshark."""
    carrier = scheme_of(kept.peer)
    return f"plain text from the message log of {kept.endpoint}: it went over {carrier}; {kept.clock} clock"


class PlainCapture:
    """A capture under way; get it with `log.capture(path)`, as a context manager.

    At `most_B` its file is set aside as `.1`, and begun anew.
    """

    def __init__(self, log: MessageLog, path: Path | str, most_B: int = MOST_B) -> None:
        self.path = Path(path)
        self.error: NetworkError | None = None
        """Why the capture ended early: a full disk must not stop the endpoint."""
        self._log, self._most_B = log, most_B
        self._lock = threading.Lock()
        self._file: PcapngFile | None = open_plain(path, log.title)
        log.watch(self)

    def __repr__(self) -> str:
        return f"<PlainCapture {self.path}, {'closed' if self._file is None else 'open'}>"

    def _repr_html_(self) -> str:
        size = f"{self.path.stat().st_size} B" if self.path.is_file() else "no file"
        return f"Capture <code>{escape(str(self.path))}</code>: {size}; Wireshark opens it"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(quiet=error is not None)

    def __call__(self, kept: Kept | KeptEvent) -> None:
        if isinstance(kept, KeptEvent):
            return
        with self._lock:
            if self._file is None:
                return
            try:
                _add(self._file, kept)
                if self._file.size_B >= self._most_B and self.path.is_file():
                    self._file.set_aside()
                    self._file = open_plain(self.path, self._log.title)
                self._file.flush()
            except NetworkError as error:
                self.error = error
                self._file.drop()
                self._file = None

    def close(self, *, quiet: bool = False) -> None:
        """End the capture; a second call does nothing.

        Raises:
            NetworkError: not all of it could be written; not if quiet.
        """
        self._log.unwatch(self)
        with self._lock:
            file, self._file = self._file, None
            if file is not None:
                try:
                    file.close()
                except NetworkError as error:
                    self.error = error
                    file.drop()
        if self.error is not None and not quiet:
            raise self.error


def save(kept: Iterable[Kept | KeptEvent], path: Path | str, title: str) -> Path:
    """Write messages to a pcapng file.

    Raises:
        NetworkError: it cannot be written.
    """
    file = open_plain(path, title)
    try:
        for each in kept:
            if isinstance(each, Kept):
                _add(file, each)
        file.close()
    except NetworkError:
        file.drop()
        raise
    return Path(path)


def open_plain(path: Path | str, title: str) -> PcapngFile:
    """Open a pcapng file for plain messages."""
    about = f"{title}: CoAP messages in plain text; what is secret is overwritten with *"
    return PcapngFile(path, link_type=LINKTYPE_UPPER_PDU, name="message log", hardware="pdmlab", comment=about)


def _add(file: PcapngFile, kept: Kept) -> None:
    data, whole = packet(kept)
    file.add(kept.time_ns, data, kept.direction, comment(kept), whole=whole)


def _tag(number: int, value: bytes) -> bytes:
    padded = value + bytes(-len(value) % 4)
    return struct.pack("!HH", number, len(padded)) + padded


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address("127.0.0.1" if host == "localhost" else host.partition("%")[0])
    except ValueError:
        return ipaddress.IPv4Address(NOBODY[0])


def _as_v6(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv6Address:
    if isinstance(address, ipaddress.IPv6Address):
        return address
    return ipaddress.IPv6Address("::") if int(address) == 0 else ipaddress.IPv6Address(f"::ffff:{address}")
