"""A port from the moment in which it is opened."""

from __future__ import annotations

import select
import socket
from typing import Any

import pytest

from pdmlab.boards.port import open_port


def test_what_a_board_behind_tcp_says_at_once_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.create_connection
    with socket.create_server(("127.0.0.1", 0)) as server:

        def connected(*arguments: Any, **options: Any) -> socket.socket:
            """Connect, and come back when what the other side says at once has arrived."""
            client = connect(*arguments, **options)
            accepted, _ = server.accept()
            with accepted:
                accepted.sendall(b"booting\r\n")
            select.select([client], [], [], 10)
            return client

        monkeypatch.setattr(socket, "create_connection", connected)
        port = open_port(f"socket://127.0.0.1:{server.getsockname()[1]}", baud=115200, read_timeout=5)
        try:
            assert port.read(9) == b"booting\r\n"
        finally:
            port.close()
