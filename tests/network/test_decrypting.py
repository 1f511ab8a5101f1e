"""Real captures of TLS and DTLS, read by tshark with the key log: what was said comes out in plain text."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.capture import KeyLog
from pdmlab.coap.dtls import dtls, dtls_to
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.security import Security
from pdmlab.coap.tls import tls, tls_to
from pdmlab.coap.transport import Connection, Opener
from tests.coap.certificates import Authority
from tests.tools import program

MakeDesk = Callable[..., Any]  # the desk fixture of conftest.py
PSK = b"desk-7", bytes(range(16))


def decrypted(path: Path, keys: Path | None, *names: str, more: Sequence[str] = ("-Y", "coap")) -> list[list[str]]:
    """Return fields of the messages, CoAP unless `more` says otherwise, that tshark finds in a capture."""
    options = ["-o", f"tls.keylog_file:{keys}"] if keys is not None else []
    wanted = [word for name in names for word in ("-e", name)]
    found = subprocess.run(
        [program("tshark"), "-n", "-r", str(path), *options, *more, "-T", "fields", *wanted],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [line.split("\t") for line in found.stdout.splitlines()]


def answers(request: Message, peer: object) -> Message:
    return Message(code=codes.CONTENT, payload=b"21.5")


def say(board: Any, path: Path, server: Opener, client: Callable[[], Opener], peer: Connection) -> None:
    """Ask for a temperature over a connection, with the board's interface captured."""

    async def story() -> None:
        listening = await Endpoint.open(server, answers)
        asking = await Endpoint.open(client())
        response = await asking.request(Message(code=codes.GET, uri_path=("3303", "0", "5700")), peer)
        assert response.payload == b"21.5"
        await asking.close()
        await listening.close()

    with board.net.capture(path):
        board.run(lambda: None)
        board.clock.call_async(story())


@pytest.mark.debian
@pytest.mark.parametrize("kind", ["certificate", "psk"])
def test_dtls_of_a_board_is_decrypted_by_the_key_log(desk: MakeDesk, tmp_path: Path, kind: str) -> None:
    board, ca = desk(), Authority()
    keys = KeyLog(tmp_path / "keys.log")
    if kind == "certificate":
        ours, theirs = ca.security("desk1"), ca.security("server")
    else:
        ours, theirs = Security(psk=PSK), Security(psk_of=dict([PSK]).get)
    ours = dataclasses.replace(ours, keylog=keys)
    host = board.fabric.host("cloud")
    peer = Connection(host.address, 5684, "coaps")
    path = tmp_path / "dtls.pcapng"
    say(board, path, dtls(host.opener(5684), theirs), lambda: dtls_to(board.net.opener(peer), peer, ours), peer)
    keys.close()
    assert decrypted(path, None, "coap.code") == []  # it is secret without
    shown = decrypted(path, keys.path, "udp.dstport", "coap.code", "coap.opt.uri_path", "_ws.col.Protocol")
    assert [row[1:3] for row in shown] == [["1", "3303,0,5700"], ["69", ""]]
    assert shown[0][0] == "5684"


@pytest.mark.debian
@pytest.mark.parametrize("framing", ["record", "rfc8323"])
def test_tls_of_a_board_is_decrypted_by_the_key_log(desk: MakeDesk, tmp_path: Path, framing: str) -> None:
    board, ca = desk(), Authority()
    path, keys = tmp_path / "tls.pcapng", KeyLog(tmp_path / "keys.log")
    ours = dataclasses.replace(ca.security("desk1"), keylog=keys)
    host = board.fabric.host("cloud")
    peer = Connection(host.address, 5684, "coaps+tcp")
    server = tls("", 0, ca.security("server"), accept=host.acceptor(5684))
    way = {"connect": board.net.connect_stream, "framing": framing}
    say(board, path, server, lambda: tls_to(peer, ours, **way), peer)
    keys.close()
    assert decrypted(path, None, "coap.code") == []  # it is secret without
    if framing == "rfc8323":
        found = decrypted(path, keys.path, "coap.code", "coap.opt.uri_path")
        assert [row for row in found if row[0] in ("1", "69")] == [["1", "3303,0,5700"], ["69", ""]]
        return
    # One message a record is the stock client's own way, and Wireshark takes it for RFC 8323: look at its bytes.
    texts = decrypted(path, keys.path, "data.data", more=["-d", "tls.port==5684,data", "-Y", "data"])
    get, content = (bytes.fromhex(text) for (text,) in texts)
    assert get[1] == codes.GET and b"\xb43303\x010\x045700" in get
    assert content[1] == codes.CONTENT and content.endswith(b"21.5")
