"""Which transport a build speaks, and a device in queue mode."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from aiocoap.numbers import codes

from pdmlab.client.download_protocol import download_protocol_of
from pdmlab.client.queue_mode import AWAKE
from pdmlab.client.transport import Transport, check, transport_of
from pdmlab.clock import SECOND
from pdmlab.errors import ConfigError, TimedOut
from pdmlab.sim import VirtualBoard
from tests.client.bench import Bench, Cloud

KEY = "device-management.mcc_transport_mode"
MACRO = "MBED_CLOUD_CLIENT_TRANSPORT_MODE"


@pytest.mark.parametrize(
    ("document", "transport"),
    [
        ({}, None),
        ({"target_overrides": {"*": {KEY: 2}}}, "udp"),
        ({"target_overrides": {"*": {KEY: 2}, "K64F": {KEY: 0}}}, "tcp"),
        ({"target_overrides": {"*": {KEY: 3}, "K66F": {KEY: 0}}}, "udp_queue"),
        ({"target_overrides": {"*": {"target.macros_add": [f"{MACRO}_UDP"]}}}, "udp"),
        ({"macros": [f"{MACRO}_UDP_QUEUE", "OTHER=1"]}, "udp_queue"),
        ({"macros": [f"{MACRO}_TCP=1"], "target_overrides": {"K64F": {KEY: 0}}}, "tcp"),
        ({"macros": "nonsense", "target_overrides": []}, None),
    ],
)
def test_mbed_app_json_decides(document: dict[str, object], transport: Transport | None) -> None:
    assert transport_of(document, "K64F") == transport


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"target_overrides": {"*": {KEY: 1}}}, "refuses TCP with a queue"),
        ({"macros": [f"{MACRO}_TCP_QUEUE"]}, "refuses TCP with a queue"),
        ({"target_overrides": {"*": {KEY: 9}}}, "is 9"),
        ({"target_overrides": {"*": {KEY: "fast"}}}, "is 'fast'"),
        ({"macros": [f"{MACRO}_TCP"], "target_overrides": {"*": {KEY: 2}}}, "two transports"),
    ],
)
def test_what_no_build_can_be_is_refused(document: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        transport_of(document, "K64F")


def test_the_seeds_samples_are_read() -> None:
    """pelion-ready-example: Thread boards speak UDP, the others TCP."""
    assert transport_of({"target_overrides": {"K66F": {KEY: "2"}}}, "K66F") == "udp"
    assert check(None) is None
    with pytest.raises(ConfigError, match="no transport 'pigeon'"):
        check("pigeon")


def test_a_board_compiles_it_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mbed_app.json").write_text(json.dumps({"target_overrides": {"K64F": {KEY: 2}}}))
    with VirtualBoard("K64F", memory=True, power=False) as board:
        board.flash_application("idle")
        installed = board.installed()
        assert installed is not None and installed.transport == "udp"
    with VirtualBoard("K64F", memory=True, power=False, transport="udp_queue") as board:
        board.flash_application("idle")
        installed = board.installed()
        assert installed is not None and installed.transport == "udp_queue", "a keyword goes before the file"
        assert "transport=udp_queue" in board.url
    (tmp_path / "mbed_app.json").write_text("{")
    with pytest.raises(ConfigError, match="is no JSON"):
        VirtualBoard("K64F", memory=True, power=False)
    (tmp_path / "mbed_app.json").unlink()
    with pytest.raises(ConfigError, match="no transport"):
        VirtualBoard("K64F", memory=True, power=False, transport="carrier")  # type: ignore[arg-type]


def test_in_queue_mode_a_device_hears_only_after_it_has_spoken() -> None:
    """docs/wire.md 3.6: the binding says so, and requests that come while it sleeps are lost."""
    bench = Bench()
    bench.image.transport = "udp_queue"

    async def story() -> None:
        cloud = await Cloud(bench, grant=1200).open()
        client = await bench.connect()
        await cloud.registered.wait()
        assert "b=UQ" in cloud.queries[-1]
        await asyncio.sleep(AWAKE - 5)
        assert (await cloud.get("/3/0/0")).payload == b"ACME", "awake"
        await asyncio.sleep(AWAKE - 5)
        assert (await cloud.get("/3/0/0")).payload == b"ACME", "its answer keeps it awake"
        await asyncio.sleep(AWAKE + 1)
        with pytest.raises(TimedOut):
            await cloud.get("/3/0/0")
        await cloud.hears("update")
        assert 0.75 * 1200 < bench.clock.now() / SECOND < 0.75 * 1200 + 100
        assert (await cloud.get("/3/0/0")).payload == b"ACME"
        await asyncio.sleep(AWAKE + 1)
        client.register_update()
        await cloud.hears("update", 2)
        assert (await cloud.ask(codes.GET, "/3/0/0")).code == codes.CONTENT

    bench.play(story)


def test_over_a_stream_a_silent_device_pings_after_nine_minutes() -> None:
    """docs/wire.md 1.9: an empty confirmable message, which the server resets."""
    bench = Bench()
    bench.image.transport = "tcp"

    async def story() -> None:
        cloud = await Cloud(bench, carrier="tcp").open()
        await bench.connect()
        await cloud.registered.wait()
        began = bench.clock.now()
        seen = len(cloud.log)
        await asyncio.sleep(1700)
        rows = [row for row in list(cloud.log)[seen:] if row.type in ("CON", "RST")]
        assert [(row.direction, row.type) for row in rows] == [("in", "CON"), ("out", "RST")] * 3
        times = [row.time_ns - began for row in rows if row.direction == "in"]
        assert [round(each / SECOND / 540, 2) for each in times] == [1, 2, 3]
        assert all(row.payload_B == 0 and row.token == "" for row in rows)

    bench.play(story)


def test_a_server_that_has_vanished_is_found_out_by_the_ping_and_connected_to_anew() -> None:
    bench = Bench()
    bench.image.transport = "tcp"

    async def story() -> None:
        cloud = await Cloud(bench, carrier="tcp").open()
        client = await bench.connect()
        await cloud.registered.wait()
        await asyncio.sleep(1)
        bench.fabric.hosts["cloud"].online = False
        await asyncio.sleep(700)
        assert client.error_description
        bench.fabric.hosts["cloud"].online = True
        await cloud.hears("update")
        assert cloud.heard.count("POST rd") == 1, "an update, not a registration"
        await asyncio.sleep(1)
        assert (await cloud.get("/3/0/0")).payload == b"ACME"

    bench.play(story)


def test_a_connection_that_the_server_closes_is_made_again_with_an_update() -> None:
    """docs/wire.md 1.8 and 3.5: after 10 s and a round trip of 3 s, 10 % more or less."""
    bench = Bench()
    bench.image.transport = "tcp"

    async def story() -> None:
        cloud = await Cloud(bench, carrier="tcp").open()
        await bench.connect()
        await cloud.registered.wait()
        await asyncio.sleep(100)
        cloud.drop()
        began = bench.clock.now()
        await cloud.hears("update")
        assert 11.6 < (bench.clock.now() - began) / SECOND < 14.5
        assert cloud.heard.count("POST rd") == 1 and cloud.heard.count("POST bs") == 1

    bench.play(story)


DOWNLOAD = "mbed-cloud-client.update-download-protocol"


def test_mbed_app_json_decides_what_firmware_is_fetched_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    http = {"target_overrides": {"*": {DOWNLOAD: "MBED_CLOUD_CLIENT_UPDATE_DOWNLOAD_PROTOCOL_HTTP"}}}
    assert download_protocol_of(http, "K64F") == "http" and download_protocol_of({}, "K64F") is None
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mbed_app.json").write_text(json.dumps(http))
    with VirtualBoard("K64F", memory=True, power=False) as board:
        board.flash_application("idle")
        installed = board.installed()
        assert installed is not None and installed.download_protocol == "http"
    with VirtualBoard("K64F", memory=True, power=False, download="coap") as board:
        board.flash_application("idle")
        installed = board.installed()
        assert installed is not None and installed.download_protocol == "coap" and "download=coap" in board.url
    with pytest.raises(ConfigError, match="_COAP or"):
        download_protocol_of({"target_overrides": {"K64F": {DOWNLOAD: "FTP"}}}, "K64F")
    with pytest.raises(ConfigError, match="fetches nothing by 'pigeon'"):
        VirtualBoard("K64F", memory=True, power=False, download="pigeon")  # type: ignore[arg-type]
