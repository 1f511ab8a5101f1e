"""One end of a TCP connection in the fabric: what bounds its throughput is modelled, what does not is left out.

In, each as the stack has it whose row of `stacks.toml` this end runs on: three-way handshake, MSS, the window offered
by the receiver and when it is updated, delayed ACKs, slow start and congestion avoidance, fast retransmit and recovery
(RFC 5681, 6582), retransmission time-outs with the grain of the stack's timer (RFC 6298), Nagle's algorithm,
silly-window avoidance and zero-window probes (RFC 9293 §3.8.6), FIN and RST.
Out: SACK and limited transmit, window scaling, time stamps, TIME-WAIT, lwIP's pools of buffers.
Sequence numbers start at 0 and do not wrap.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from pdmlab.clock import SECOND
from pdmlab.errors import NetworkError
from pdmlab.network.bytestream import ByteStream
from pdmlab.network.inbox import Inbox
from pdmlab.network.nsapi import NsapiError, nsapi_error
from pdmlab.network.round_trips import RoundTrips
from pdmlab.network.segment import Segment
from pdmlab.network.stacks import TcpStack

if TYPE_CHECKING:
    from pdmlab.coap.transport import Address

SMALL_WINDOW = 536  # B: up to here a peer's window is not halved (Linux, TCP_MSS_DEFAULT)


class Stream(ByteStream):
    """One end of a connection; made by its host, which carries the segments."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        send: Callable[[Segment, bool], None],
        on_closed: Callable[[], None],
        *,
        local: Address,
        peer: Address,
        stack: TcpStack,
        mss: int,
        receive_buffer: int,
        send_buffer: int,
    ) -> None:
        super().__init__(loop)
        self.stack = stack
        self.local = local
        self.peer: Address = peer
        self.mss = mss
        self.receive_buffer = receive_buffer
        self.send_buffer = send_buffer
        self.on_established: Callable[[Stream], None] | None = None
        self._send = send
        self._on_closed = on_closed
        self._connected = False
        self._gone = False
        self._rto_timer: asyncio.TimerHandle | None = None
        # Sending: _una .. _next is under way, _next .. _end waits. _out[0] is byte _una.
        self._out = bytearray()
        self._una = 0
        self._next = 0
        self._highest = 0  # of all that was ever sent
        self._sent = 0  # the same, as the host has seen it
        self._closing = False
        self._fin_acknowledged = False
        self._peer_edge = 0  # the right edge of the peer's window
        self._peer_largest = 0  # of all windows that the peer has offered
        self._cwnd = 0
        self._slow_start_until = 1 << 60
        self._duplicates = 0
        self._recover = -1
        self._tries = 0
        self._times = RoundTrips(stack, self._now())
        # After a time-out that may be spurious: the end of what was sent again, and both thresholds from before.
        self._doubted: tuple[int, int, int] | None = None
        self._proving = False  # new segments are under way, whose ACKs will tell
        # Receiving
        self._inbox = Inbox(stack)
        self._edge = 0  # the right edge of the window, as the peer was last told
        self._ack_timer: asyncio.TimerHandle | None = None
        self._fin_at: int | None = None
        self._ended = False

    def __repr__(self) -> str:
        return f"<Stream {self.local[0]}:{self.local[1]} -> {self.peer[0]}:{self.peer[1]}>"

    # -- for applications ----------------------------------------------------------------------------

    def read_now(self, n: int) -> bytes | None:
        if self._inbox:
            data = self._inbox.read(n)
            opened = self._expected + self._offer() - self._edge
            divisor = self.stack.update_divisor
            least = min(self.receive_buffer // divisor, 4 * self.mss) if divisor else 1
            if opened > 0 and opened >= least and not self._ended and not self._gone:
                self._acknowledge()
            return data
        if self.error is not None:
            raise self.error
        return b"" if self._ended or self._gone else None

    def write_now(self, data: bytes) -> int:
        if self.error is not None:
            raise self.error
        if self._closing or self._gone:
            raise nsapi_error(NsapiError.NO_CONNECTION, f"{self!r} is closed for sending")
        taken = min(len(data), self.send_buffer - len(self._out))
        self._out += data[:taken]
        self._push()
        return taken

    def close(self) -> None:
        if self._closing or self._gone:
            return
        if not self._connected or self._inbox:
            self.abort()  # what nobody will read must not look delivered (RFC 2525 §2.17)
        else:
            self._closing = True
            self._push()

    def abort(self) -> None:
        if not self._gone:
            if self._connected:
                self._transmit(Segment(self._next, self._expected, rst=True, acks=True))
            self._vanish()

    async def established(self) -> None:
        """Wait for the handshake's end.

        Raises:
            Unreachable: the peer refuses. TimedOut: it does not answer.
        """
        while not self._connected:
            if self.error is not None:
                raise self.error
            await self.changed()

    # -- for the host ----------------------------------------------------------------------------------

    def open(self) -> None:
        """Send the SYN."""
        self._send_syn(acks=False)

    def vanish(self) -> None:
        """Cease to exist, without telling the peer; who waits here gets NSAPI_ERROR_CONNECTION_LOST."""
        self._vanish(nsapi_error(NsapiError.CONNECTION_LOST, f"{self!r} went down with its interface"))

    def receive(self, segment: Segment) -> None:
        """Take a segment that has arrived."""
        if segment.rst:
            if self._ended and self._closing:  # it had closed too, and our last ACK got lost
                self._vanish()
                return
            refused = not self._connected
            code = NsapiError.NO_CONNECTION if refused else NsapiError.CONNECTION_LOST
            what = "refuses the connection: nobody listens there" if refused else "reset the connection"
            self._vanish(nsapi_error(code, f"{self.peer[0]}:{self.peer[1]} {what}"))
            return
        if segment.syn:
            self._take_syn(segment)
            return
        if segment.acks:
            if not self._connected and segment.ack >= 1:
                self._times.answered(segment.ack, self._now())
                self._una = 1
                self._establish()
            self._take_ack(segment)
        if segment.data or segment.fin:
            self._take_data(segment)
        if not self._gone and self._ended and self._fin_acknowledged:
            self._vanish()

    # -- handshake -------------------------------------------------------------------------------------

    def _send_syn(self, *, acks: bool) -> None:
        if self._highest == 0:
            self._times.sent(1, self._now())
        else:
            self._times.sent_again(0, 1)
        self._next = self._highest = 1
        self._transmit(Segment(0, self._expected, self.receive_buffer, syn=True, acks=acks, mss=self.mss))
        self._arm()

    def _take_syn(self, segment: Segment) -> None:
        if self._connected:
            self._acknowledge()  # our last ACK of the handshake got lost
            return
        self._inbox.expected = 1
        self._edge = 1 + self.receive_buffer  # a SYN takes a number, but no room
        self.mss = min(self.mss, segment.mss)
        self._peer_edge = 1 + segment.window
        self._peer_largest = segment.window
        if segment.acks:
            self._times.answered(segment.ack, self._now())
            self._una = 1
            self._establish()
            self._acknowledge()
        else:
            self._send_syn(acks=True)

    def _establish(self) -> None:
        self._connected = True
        self._tries = 0
        self._cwnd = self.stack.initial(self.mss)
        self._disarm()
        if self.on_established is not None:
            self.on_established(self)
        self._notify()
        self._push()

    # -- sending ---------------------------------------------------------------------------------------

    @property
    def _end(self) -> int:
        return self._una + len(self._out)

    @property
    def _expected(self) -> int:
        return self._inbox.expected

    def _push(self) -> None:
        """Send what the windows allow."""
        if not self._connected or self._gone:
            return
        largest = self._largest_segment()
        while self._next < self._end and (self._next == self._una or not self.stack.one_segment):
            wanted = min(largest, self._end - self._next)
            congested = self._una + self._cwnd + self._limited_transmit()
            size = min(wanted, min(congested, self._peer_edge) - self._next)
            # A short segment may fill the peer's window, but congestion control counts in whole ones.
            if size <= 0 or (size < wanted and congested < self._peer_edge and self._next > self._una):
                break
            if size < largest and self._waits_for_more():
                break
            self._send_data(self._next, size)
            self._next += size
        if self._closing and not self._fin_acknowledged and self._next == self._end:
            self._next += 1
            self._transmit(Segment(self._end, self._expected, self._offer(), fin=True, acks=True))
        self._highest = max(self._highest, self._next)
        if self._rto_timer is None and (self._out or self._closing) and not self._fin_acknowledged:
            self._arm()  # also for a window of zero: the time-out probes it

    def _largest_segment(self) -> int:
        """Return the size of a full segment (B)."""
        if self.stack.half_window and self._peer_largest > SMALL_WINDOW:
            return max(min(self.mss, self._peer_largest // 2), 1)
        return max(min(self.mss, self._peer_largest), 1) if self.stack.half_window else self.mss

    def _limited_transmit(self) -> int:
        """Return how much the first two duplicate ACKs let out in addition (B; RFC 3042)."""
        if self._recover >= 0 or not self.stack.limited_transmit:
            return 0
        return min(self._duplicates, 2) * self.mss

    def _waits_for_more(self) -> bool:
        """Whether a short segment waits for the ACK of those under way (Nagle's algorithm)."""
        if not self.stack.nagle or self._closing or self._next == self._una:
            return False
        return self._next >= self._highest and len(self._out) < self.send_buffer

    def _send_data(self, seq: int, size: int) -> None:
        start = seq - self._una
        if seq < self._highest:
            self._times.sent_again(seq, seq + size)
        else:
            self._times.sent(seq + size, self._now())
        data = bytes(self._out[start : start + size])
        push = start + size == len(self._out)
        self._transmit(Segment(seq, self._expected, self._offer(), data, acks=True, push=push))

    def _take_ack(self, segment: Segment) -> None:
        ack, old_edge = segment.ack, self._peer_edge
        if ack > self._highest or ack < self._una:
            return
        self._peer_edge = max(old_edge, ack + segment.window)  # windows do not shrink; old ACKs may come late
        self._peer_largest = max(self._peer_largest, segment.window)
        if ack > self._una:
            self._times.answered(ack, self._now())
            newly = ack - self._una
            self._fin_acknowledged = ack > self._end
            del self._out[:newly]
            self._una = ack
            self._next = max(self._next, ack)
            self._tries = 0
            if self._doubted is None or self._judge_time_out(ack):
                self._grow(ack, newly, self._next - ack + newly)
            self._disarm()
            self._push()
            self._notify()
            return
        flight = self._next - self._una
        if flight and not segment.data and not segment.fin and ack + segment.window == old_edge:
            self._take_duplicate(flight)
        self._push()

    def _grow(self, ack: int, newly: int, flight: int) -> None:
        self._duplicates = 0
        limited = self._cwnd < flight + self.mss or self.stack.congestion != "Linux"
        if self._recover >= 0:
            if ack < self._recover and self.stack.new_reno:  # a partial ACK: the next hole (RFC 6582 §3.2)
                self._cwnd = max(self._cwnd - newly + self.mss, self.mss)
                self._resend_first()
            else:
                self._cwnd, self._recover = self._slow_start_until, -1
        elif self._cwnd < self._slow_start_until:
            if limited or self._cwnd < 2 * flight:
                self._cwnd += min(newly, 2 * self.mss)  # RFC 3465 §2.1, with L = 2
        elif limited:
            self._cwnd += max(1, self.mss * self.mss // self._cwnd)

    def _judge_time_out(self, ack: int) -> bool:
        """Undo a time-out if what was not sent again is acknowledged, else send all of it again (RFC 5682 §2.1).

        Where only what was sent again is acknowledged, two new segments are let out first: their ACKs will tell.
        Returns whether that is decided.
        """
        assert self._doubted is not None
        end, cwnd, threshold = self._doubted
        if ack > end:
            self._cwnd, self._slow_start_until = cwnd, threshold
        elif min(self._peer_edge, self._end) > self._highest and not self._proving:
            self._proving = True
            self._cwnd = self._highest - ack + 2 * self.mss
            return False
        else:
            self._next = ack
        self._doubted = None
        return True

    def _take_duplicate(self, flight: int) -> None:
        self._duplicates += 1
        if self._doubted is not None:
            if self._proving:  # something is missing indeed
                self._doubted, self._next, self._cwnd = None, self._una, self.mss
            return  # else it is from what was under way before the time-out
        if self._recover >= 0:
            self._cwnd += self.mss
        elif self._duplicates == 3 and self.stack.fast_retransmit:
            self._halve(flight)
            self._cwnd = self._slow_start_until + 3 * self.mss
            self._recover = self._highest
            self._resend_first()

    def _halve(self, flight: int) -> None:
        base = self._cwnd if self.stack.congestion == "Linux" else flight
        self._slow_start_until = max(base // 2, 2 * self.mss)

    def _resend_first(self) -> int:
        """Send the oldest segment again; return how many bytes of data that was."""
        size = min(self._largest_segment(), len(self._out), max(self._highest - self._una, 0))
        if size:
            self._send_data(self._una, size)
        elif self._closing and not self._fin_acknowledged:
            self._transmit(Segment(self._end, self._expected, self._offer(), fin=True, acks=True))
        return size

    # -- retransmission time-out -------------------------------------------------------------------------

    def _arm(self) -> None:
        self._disarm()
        self._rto_timer = self.loop.call_at(self._times.time_out_at(self._now()) / SECOND, self._time_out)

    def _disarm(self) -> None:
        if self._rto_timer is not None:
            self._rto_timer.cancel()
            self._rto_timer = None

    def _time_out(self) -> None:
        self._rto_timer = None
        self._tries += 1
        probing = self._connected and self._next == self._una
        if self._tries > (self.stack.data_tries if self._connected else self.stack.syn_tries):
            what = "no longer answers" if self._connected else "does not answer"
            waited = f"{self._tries} tries, the last of {self._times.rto / SECOND:g} s"
            who = f"{self.peer[0]}:{self.peer[1]}"
            self._vanish(nsapi_error(NsapiError.CONNECTION_TIMEOUT, f"{who} {what}; {waited}"))
            return
        if self._connected or self.stack.backs_off_syn:
            self._times.back_off()
        if not self._connected:
            self._send_syn(acks=self._expected == 1)
            return
        if probing:
            self._tries = 0  # a peer that answers probes may keep its window shut for ever
            self._transmit(Segment(self._una, self._expected, self._offer(), bytes(self._out[:1]), acks=True))
            self._highest = max(self._highest, self._una + 1)
        else:
            before = self._cwnd, self._slow_start_until
            doubts = self.stack.frto and self._doubted is None and self._recover < 0 and bool(self._out)
            self._halve(self._next - self._una)
            self._cwnd = self.mss
            self._duplicates, self._recover = 0, -1
            self._proving = False
            if doubts:
                self._doubted = (self._una + self._resend_first(), *before)
            else:
                self._doubted, self._next = None, self._una
        self._push()
        if self._rto_timer is None:
            self._arm()

    def _now(self) -> int:
        return round(self.loop.time() * SECOND)

    # -- receiving ---------------------------------------------------------------------------------------

    def _offer(self) -> int:
        """Return the window to offer (B).

        Its right edge moves in steps worth a segment or half the buffer (RFC 9293 §3.8.6.2.2).
        """
        edge = self._expected + self.receive_buffer - self._inbox.unread
        if edge - self._edge >= min(self.mss, (self.receive_buffer + 1) // 2):
            return edge - self._expected
        return max(self._edge - self._expected, 0)

    def _acknowledge(self) -> None:
        self._transmit(Segment(self._next, self._expected, self._offer(), acks=True))

    def _acknowledge_later(self) -> None:
        """Acknowledge one segment when the stack's timer says so, or with the next segment that leaves."""
        if self._ack_timer is not None:  # the second
            self._acknowledge()
        else:
            due = self._times.ack_due_at(self._now())
            self._ack_timer = self.loop.call_at(due / SECOND, self._acknowledge)

    def _transmit(self, segment: Segment) -> None:
        """Hand a segment to the host, and say whether it was sent before; its ACK settles any that is owed."""
        if self._ack_timer is not None and segment.acks:
            self._ack_timer.cancel()
            self._ack_timer = None
        if segment.acks or segment.syn:
            self._edge = max(self._edge, segment.ack + segment.window)
        again = segment.end > segment.seq and segment.seq < self._sent
        self._sent = max(self._sent, segment.end)
        self._send(segment, again)

    def _take_data(self, segment: Segment) -> None:
        if self._closing and segment.data and segment.end > self._expected:
            self.abort()  # nobody will read it
            return
        data = segment.data[: max(self._edge - segment.seq, 0)]  # what lies beyond the window is not kept
        if segment.fin and len(data) == len(segment.data):
            self._fin_at = segment.end - 1
        before = self._expected
        if not self._inbox.put(segment.seq, data):
            self._fin_at = None
        if self._expected == self._fin_at:
            self._inbox.expected += 1
            self._edge += 1  # the FIN takes a number, but no room
            self._ended = True
        if self._ended or self._inbox.has_gaps or self._expected == before or not self.stack.delayed_ack:
            self._acknowledge()  # the end, out of order, or nothing new
        else:
            self._acknowledge_later()
        if self._expected > before and (self._ended or segment.push or self._half_full()):
            self._notify()

    def _half_full(self) -> bool:
        """Whether there is enough for the application to hear of it."""
        return not self.stack.wakes_late or 2 * self._inbox.unread >= self.receive_buffer

    def _vanish(self, error: NetworkError | None = None) -> None:
        self._disarm()
        if self._ack_timer is not None:
            self._ack_timer.cancel()
            self._ack_timer = None
        self._gone = True
        self.error = self.error or error
        self._on_closed()
        self._notify()
