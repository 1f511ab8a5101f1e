"""What a stream knows of its round trip, and how long it waits for an answer (RFC 6298, in each stack's own grain)."""

from __future__ import annotations

from collections import deque

from pdmlab.network.stacks import TcpStack


class RoundTrips:
    """Times segments by their ACKs; `rto` is the time-out that follows (ns)."""

    def __init__(self, stack: TcpStack, now: int) -> None:
        self.rto = stack.first_rto
        self._stack = stack
        self._opened = now  # the stack's ticks are counted from here
        self._smoothed = 0
        self._variation = stack.first_rto if stack.tick else 0
        # (sequence number awaited, when sent, or -1 if sent again); one at a time where there are ticks
        self._timed: deque[tuple[int, int]] = deque()

    def sent(self, end: int, now: int) -> None:
        """Take note that a segment was sent for the first time, whose ACK will be `end`."""
        if not self._timed or not self._stack.tick:
            self._timed.append((end, now))

    def sent_again(self, start: int, end: int) -> None:
        """Take note that these bytes are sent again: their answer tells no round trip (Karn)."""
        if self._stack.tick:
            self._timed.clear()
        else:
            self._timed = deque((last, -1 if start < last <= end else sent) for last, sent in self._timed)

    def answered(self, ack: int, now: int) -> None:
        """Keep the smoothed round trip, if what is acknowledged was timed."""
        timed, stack = self._timed, self._stack
        times = []
        while timed and timed[0][0] <= ack:
            times.append(timed.popleft()[1])
        if not times or min(times) < 0:
            return
        if stack.tick:
            self._count_ticks(self._ticks(now) - self._ticks(times[0]))
            return
        sample = now - times[0]
        if self._smoothed == 0:
            self._smoothed, self._variation = sample, sample // 2
        else:
            self._variation += (abs(self._smoothed - sample) - self._variation) // 4
            self._smoothed += (sample - self._smoothed) // 8
        self.rto = min(self._smoothed + max(4 * self._variation, stack.min_rto), stack.max_rto)

    def back_off(self) -> None:
        """Double the time-out."""
        self.rto = min(self.rto * 2, self._stack.max_rto)

    def time_out_at(self, now: int) -> int:
        """Return when what is sent now is given up: the timer counts ticks, and the first of them is running (ns)."""
        tick = self._stack.tick
        return self._opened + (self._ticks(now) + self.rto // tick) * tick if tick else now + self.rto

    def ack_due_at(self, now: int) -> int:
        """Return when an ACK that waits is sent (ns): lwIP's fast timer runs whether there is anything to do or not."""
        delay = self._stack.delayed_ack
        return self._opened + ((now - self._opened) // delay + 1) * delay if self._stack.tick else now + delay

    def _ticks(self, when: int) -> int:
        return (when - self._opened) // self._stack.tick

    def _count_ticks(self, sample: int) -> None:
        """Keep the smoothed round trip in whole ticks, eight- and fourfold, as Van Jacobson's code and lwIP do."""
        tick = self._stack.tick
        sa, sv = self._smoothed // tick, self._variation // tick
        error = sample - (sa >> 3)
        sa += error
        sv += abs(error) - (sv >> 2)
        self._smoothed, self._variation = sa * tick, sv * tick
        self.rto = min(max(((sa >> 3) + sv) * tick, self._stack.min_rto), self._stack.max_rto)
