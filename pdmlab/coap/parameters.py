"""The times and limits of an endpoint; defaults are RFC 7252 section 4.8's."""

from __future__ import annotations

from dataclasses import dataclass

from pdmlab.errors import ConfigError


@dataclass(frozen=True, slots=True)
class TransmissionParameters:
    """Retransmission (s), block sizes (B) and what a hostile peer may make the endpoint hold."""

    ack_timeout: float = 2.0
    ack_random_factor: float = 1.5
    max_retransmit: int = 4
    max_latency: float = 100.0
    nstart: int = 32  # messages to one peer that wait for its acknowledgement; RFC 7252 says 1, for want of better
    burst: int = 64  # messages sent before what came back is looked at: their answers fit into 212 KB
    ack_delay: float = 0.1  # s a handler may take before an empty ACK goes ahead of its response
    block_size: int = 1024
    max_body: int = 4 << 20  # B of one reassembled payload
    max_held: int = 64 << 20  # B of all payloads under way, of all peers, each way
    duplicates: int = 64  # messages remembered for each peer
    max_remembered: int = 100_000  # messages remembered for all peers together
    max_peers: int = 20_000
    max_serving: int = 5_000  # requests not answered yet, or not known to be; more are answered 5.03
    max_queued: int = (
        64  # notifications of one token that wait, then the oldest makes way; separate responses to a peer
    )
    # How a peer with a small CoAP library behaves where RFC 7252 and 7959 have it otherwise:
    known_options: frozenset[int] | None = None  # any other, elective ones too, makes a message one to be reset
    blocks_by_token: bool = False  # blocks of a body belong together if their token is the same, and only then
    block1_max_age: int | None = None  # Max-Age in what answers a block
    etags: bool = True  # in what goes out in several blocks, so that no two states of it are put together
    empty_ack_tail: bytes = b""  # what follows the header of an empty acknowledgement

    def __post_init__(self) -> None:
        if self.block_size not in (16, 32, 64, 128, 256, 512, 1024):
            raise ConfigError(
                f"a CoAP block cannot have {self.block_size} B", hint="a power of two from 16 to 1024 (RFC 7959)"
            )

    @property
    def max_transmit_wait(self) -> float:
        """From the first transmission of a message to giving up (93 s by default)."""
        return self.ack_timeout * float(2 ** (self.max_retransmit + 1) - 1) * self.ack_random_factor

    @property
    def exchange_lifetime(self) -> float:
        """How long a message ID may not be used again, and a duplicate may arrive (247 s by default)."""
        span = self.ack_timeout * float(2**self.max_retransmit - 1) * self.ack_random_factor
        return span + 2 * self.max_latency + self.ack_timeout
