"""A TCP segment in the fabric: sequence numbers count bytes from the SYN, which is byte 0, and do not wrap."""

from __future__ import annotations

from dataclasses import dataclass

TCP_HEADER = 20
MSS_OPTION = 4


@dataclass(frozen=True, slots=True)
class Segment:
    """A TCP segment; `seq` and `ack` count bytes from the SYN, which is byte 0."""

    seq: int
    ack: int = 0
    window: int = 0
    data: bytes = b""
    syn: bool = False
    fin: bool = False
    rst: bool = False
    acks: bool = False
    """Whether `ack` means anything (the ACK flag)."""
    mss: int = 0
    """The MSS option of a SYN."""
    push: bool = False
    """Whether the sender has no more for now (the PSH flag)."""

    @property
    def end(self) -> int:
        """The sequence number after it."""
        return self.seq + len(self.data) + self.syn + self.fin

    @property
    def size(self) -> int:
        """Its size without the IP header (B)."""
        return TCP_HEADER + (MSS_OPTION if self.syn else 0) + len(self.data)

    def __str__(self) -> str:
        flags = "".join(
            sign for sign, set_ in zip("SFRA", (self.syn, self.fin, self.rst, self.acks), strict=True) if set_
        )
        return f"TCP {flags} seq {self.seq} ack {self.ack} win {self.window} len {len(self.data)}"
