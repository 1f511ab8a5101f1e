"""Clocks: what device code reads time from, waits on and runs by.

Device code is written as on the board: blocking calls, threads, mutexes. `DeviceClock` runs each
device thread as a greenlet on one event loop in one OS thread, so that blocking code and asyncio
code (the CoAP endpoint, say) share one clock. Its `pace` decides how time passes:

* `virtual`: the loop jumps to its next timer. Deterministic, and far faster than the device.
* `live`: the loop waits with the wall, so that real peers on real sockets can be on the other
  side; work that would keep the device busy (`charge`) is added to `now()` without waiting.

The virtual clock never jumps while somebody outside the simulation is being waited for (a host on
the serial line, work in an executor thread): it then keeps pace with the wall.

Time is integer nanoseconds. `WallClock` is for storage code that runs on no board at all.
"""

from __future__ import annotations

from pdmlab.clock.device import DeviceClock, Pace
from pdmlab.clock.power import PowerLost, power_domain
from pdmlab.clock.threads import DeviceThread
from pdmlab.clock.time import MS, SECOND, Clock, ClockName, Mutex, WallClock

__all__ = [
    "MS",
    "SECOND",
    "Clock",
    "ClockName",
    "DeviceClock",
    "DeviceThread",
    "Mutex",
    "Pace",
    "PowerLost",
    "WallClock",
    "power_domain",
]
