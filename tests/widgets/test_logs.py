"""The view of a log: what it shows, and that it grows with the log."""

from __future__ import annotations

from aiocoap import Message
from aiocoap.numbers import codes
from aiocoap.numbers.types import Type

from pdmlab import widgets
from pdmlab.capture import Event, MessageLog
from pdmlab.coap.transport import Connection
from pdmlab.widgets.logs import MessagesView

PEER = Connection("192.0.2.1", 5684, "coaps+tcp")


def get(path: str) -> bytes:
    message = Message(code=codes.GET, uri_path=tuple(path.split("/")))
    message.mtype, message.mid, message.token = Type.CON, 7, b"t"
    data: bytes = message.encode()
    return data


def test_it_shows_what_came_meanwhile_and_what_failed():
    log = MessageLog(clock="device")
    view = MessagesView(log)
    assert "0 messages" in view.table.value and view.failures.value == ""
    log("in", PEER, get("3/0/0"), 5)
    assert view.look() and "/3/0/0" in view.table.value
    log.event(PEER, Event("handshake failed", "no handshake <with>", "unknown CA"), 9)
    view.look()
    assert "One thing failed" in view.failures.value and "&lt;with&gt;" in view.failures.value
    assert "text/html" in view._repr_mimebundle_() and "/3/0/0" in view._repr_mimebundle_()["text/html"]
    view.close()


def test_it_follows_until_it_is_closed():
    log = MessageLog(clock="device")
    view = widgets.messages(log.of_device("desk1"))
    assert "Log of device desk1" in view.table.value
    view.close()
    assert view._ended.is_set()
