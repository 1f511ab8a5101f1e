"""What a stream has received: in order and not read yet, or too early."""

from __future__ import annotations

from collections import deque

from pdmlab.network.stacks import TcpStack


class Inbox:
    """Bytes on their way to the application; `expected` is the sequence number of the next one."""

    def __init__(self, stack: TcpStack) -> None:
        self.expected = 0
        self.unread = 0
        """Bytes that take up the window."""
        self._stack = stack
        self._segments: deque[bytes] = deque()
        self._begun = 0  # bytes of the oldest segment that were read
        self._early: dict[int, bytes] = {}

    def __bool__(self) -> bool:
        """Whether there is anything to read."""
        return bool(self._segments)

    @property
    def has_gaps(self) -> bool:
        """Whether something came that lies behind what is missing."""
        return bool(self._early)

    def put(self, seq: int, data: bytes) -> bool:
        """Take data from sequence number seq on; return whether it was kept, or there before."""
        if seq > self.expected and not self._stack.keeps_early:
            return False
        if len(data) > len(self._early.get(seq, b"")):
            self._early[seq] = data
        while (first := next((start for start in self._early if start <= self.expected), None)) is not None:
            fresh = self._early.pop(first)[self.expected - first :]
            if fresh:
                self._segments.append(fresh)
                self.unread += len(fresh)
                self.expected += len(fresh)
        return True

    def read(self, n: int) -> bytes:
        """Take up to n bytes, or no more than the oldest segment has where the stack reads by segments."""
        return self._read_segment(n) if self._stack.segment_reads else self._read_bytes(n)

    def _read_segment(self, n: int) -> bytes:
        """Take up to n bytes of the oldest segment; the first of them opens the window by the whole segment."""
        if not self._begun:
            self.unread -= len(self._segments[0])
        return self._part(n)

    def _read_bytes(self, n: int) -> bytes:
        parts = []
        left = n
        while left and self._segments:
            part = self._part(left)
            parts.append(part)
            left -= len(part)
        self.unread -= n - left
        return b"".join(parts)

    def _part(self, n: int) -> bytes:
        """Take up to n bytes of the oldest segment."""
        segment = self._segments[0]
        data = segment[self._begun : self._begun + n]
        self._begun += len(data)
        if self._begun == len(segment):
            self._segments.popleft()
            self._begun = 0
        return data
