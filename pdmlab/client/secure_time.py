"""What time a device thinks it is: 1970 until a server has told it, then what the last server said.

The stock client has no other source. Each TLS server's first four random bytes are taken for seconds since 1970; the
bootstrap server's as they are ("strong"), any other's with limits on how far they set the clock back ("weak"). What
outlives a reset lies in SOTP, written seldom, since it wears the flash: pal_plat_time.c has the rules.
"""

from __future__ import annotations

from pdmlab.clock import SECOND, DeviceClock
from pdmlab.errors import StorageError
from pdmlab.storage.kv.nvstore import NVStore, keep
from pdmlab.storage.kv.sotp import SotpType

EARLIEST = 1_483_264_800
"""PAL_MIN_SEC_FROM_EPOCH: who says that it is before 2017 is not believed (s since 1970)."""
DAY = 24 * 3600
FORWARD, BACKWARD = DAY, 60
"""How far the time must have moved to be written again (s)."""
BACK_PER_DAY = 180
"""A weak time may set the clock back by so much for each day since it was set back last (s)."""


class SecureTime:
    """The time of one start of a board; it opens what the last start has saved. Its methods block, but for `now`."""

    def __init__(self, clock: DeviceClock, store: NVStore) -> None:
        self._clock = clock
        self._store = store
        saved, back = self._read(SotpType.SAVED_TIME), self._read(SotpType.LAST_TIME_BACK)
        if back > saved:  # a reset between the two writes of `_save`
            saved = back
            self._write(SotpType.SAVED_TIME, back)
        self._saved, self._back = saved, back
        self._boot: int | None = None  # s since 1970 when the clock was at 0
        if saved:
            self._set(saved)

    @property
    def known(self) -> bool:
        """Whether anybody has said what time it is."""
        return self._boot is not None

    def now(self) -> int:
        """Return the device's time (s since 1970); 0 if it has none."""
        return 0 if self._boot is None else self._boot + self._clock.now() // SECOND

    def hear(self, seconds: int, *, trusted: bool) -> bool:
        """Take what a server said; return whether it is believed. trusted: it was the bootstrap server.

        Raises:
            StorageError: the time cannot be saved.
        """
        if seconds < EARLIEST:
            return False
        return self._strong(seconds) if trusted else self._weak(seconds)

    def _strong(self, seconds: int) -> bool:
        if seconds - self._saved > FORWARD or self._saved - seconds > BACKWARD:
            self._save(seconds, back=True)
        self._set(seconds)
        return True

    def _weak(self, seconds: int) -> bool:
        now = self.now()
        if seconds < now:
            if seconds <= self._back or (seconds - self._back) // DAY * BACK_PER_DAY <= now - seconds:
                return False
            self._save(seconds, back=True)
        elif seconds - now > FORWARD or seconds - self._saved > FORWARD:
            self._save(seconds, back=False)
        self._set(seconds)
        return True

    def _set(self, seconds: int) -> None:
        self._boot = seconds - self._clock.now() // SECOND

    def _save(self, seconds: int, *, back: bool) -> None:
        if back:
            self._write(SotpType.LAST_TIME_BACK, seconds)
            self._back = seconds
        self._write(SotpType.SAVED_TIME, seconds)
        self._saved = seconds

    def _read(self, what: SotpType) -> int:
        try:
            data = self._store.get(what)
        except StorageError:  # none yet, or torn by a power cut: the device starts in 1970
            return 0
        return int.from_bytes(data, "little") if len(data) == 8 else 0

    def _write(self, what: SotpType, seconds: int) -> None:
        keep(self._store, what, seconds.to_bytes(8, "little"))

    def at(self, *, trusted: bool) -> ServerTime:
        """Return the clock that a handshake with a server goes by; trusted: it is the bootstrap server's CA's."""
        return ServerTime(self, trusted)

    def __repr__(self) -> str:
        return f"<SecureTime {self.now()} s since 1970>" if self.known else "<SecureTime, not told yet>"


class ServerTime:
    """The device's time in one handshake, and what the server says of it: coap.security.PeerTime."""

    def __init__(self, time: SecureTime, trusted: bool) -> None:
        self.trusted = trusted
        self.heard: int | None = None
        """What the server has said, once it has proved itself (s since 1970)."""
        self._time = time

    def now(self) -> int:
        """See PeerTime.now."""
        return self._time.now()

    def told(self, seconds: int) -> None:
        """See PeerTime.told."""
        self.heard = seconds
