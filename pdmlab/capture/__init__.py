"""What passed on the wire, for people: a decoded log of messages, captures for Wireshark, and keys to real ones.

`MessageLog` is an endpoint's tap: it keeps little and decodes when somebody looks; a `Dialect` says what payloads mean.
"""

from __future__ import annotations

from pdmlab.capture.dialect import Body, Dialect, Plain, Who
from pdmlab.capture.kept import Event, Kept, KeptEvent
from pdmlab.capture.keylog import KeyLog
from pdmlab.capture.message_log import DeviceLog, MessageLog, Tap
from pdmlab.capture.rows import LoggedMessage

__all__ = [
    "Body", "DeviceLog", "Dialect", "Event", "Kept", "KeptEvent", "KeyLog", "LoggedMessage", "MessageLog", "Plain",
    "Tap", "Who",
]  # fmt: skip
