"""What a registered device makes of single messages, byte for byte: docs/wire.md 1.9 and 4."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from pdmlab.client import M2MMethod, MbedCloudClientResource, NotificationDeliveryStatus, SimpleMbedCloudClient
from pdmlab.coap.transport import Address
from tests.client.bench import Bench, Cloud
from tests.client.scripted import Script

LARGE = bytes(range(256)) * 5


class Probe:
    """Somebody on the network who sends datagrams to the device, and sees what comes back."""

    def __init__(self, bench: Bench, device: Address) -> None:
        self.heard: asyncio.Queue[bytes] = asyncio.Queue()
        self._script = Script(self)  # type: ignore[arg-type]  # a datagram is a record
        self._device = device
        host = bench.fabric.host("probe")
        self._socket = host.open_datagram(lambda data, peer: self.heard.put_nowait(data))

    async def read(self) -> bytes:
        async with asyncio.timeout(30):
            return await self.heard.get()

    async def write(self, message: bytes) -> None:
        self._socket.send(message, self._device)

    async def play(self, transcript: str) -> None:
        await self._script.play(transcript)

    async def silence(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        assert self.heard.empty(), self.heard.get_nowait().hex(" ")


@pytest.fixture
def play() -> Callable[[Callable[[Probe, SimpleMbedCloudClient], Awaitable[None]]], None]:
    bench = Bench()

    def prepare(client: SimpleMbedCloudClient) -> None:
        client.create_resource("3201/0/5853", "pattern").methods(M2MMethod.GET | M2MMethod.PUT)
        blink = client.create_resource("3201/0/5850", "blink")
        blink.methods(M2MMethod.POST)
        counter = client.create_resource("3200/0/5501", "counter")
        counter.observable(True)
        counter.set_value("7")
        client.create_resource("5000/0/2", "large").set_value(LARGE)

    def playing(story: Callable[[Probe, SimpleMbedCloudClient], Awaitable[None]]) -> None:
        async def told() -> None:
            cloud = await Cloud(bench).open()
            client = await bench.connect(prepare)
            await cloud.registered.wait()
            await asyncio.sleep(1)
            assert client.address is not None
            await story(Probe(bench, client.address), client)

        bench.play(told)

    return playing


TRANSCRIPTS = {
    "a string is text, with Max-Age 0": """
        > 44 01 0001 01020304  b1 "3" 01 "0" 01 "0"
        < 64 45 0001 01020304  c0 20 ff "ACME"
    """,
    "an integer is decimal text, and eight bytes in TLV": """
        > 44 01 0002 01020304  b1 "1" 01 "0" 01 "1"
        < 64 45 0002 01020304  c0 20 ff "7200"
        > 44 01 0003 01020304  b1 "1" 01 "0" 01 "1" 62 2d16
        < 64 45 0003 01020304  c2 2d16 20 ff c8 01 08 00000000 00001c20
    """,
    "what is not there is 4.04, bare": """
        > 44 01 0004 01020304  b1 "0"
        < 64 84 0004 01020304
        > 44 01 0005 01020304  b1 "5"
        < 64 84 0005 01020304
    """,
    "what can only be executed is 4.05": """
        > 44 01 0006 01020304  b1 "3" 01 "0" 01 "4"
        < 64 85 0006 01020304
    """,
    "a token may have eight bytes, or none": """
        > 48 01 0007 0102030405060708  b1 "3" 01 "0" 01 "0"
        < 68 45 0007 0102030405060708  c0 20 ff "ACME"
        > 40 01 0008  b1 "3" 01 "0" 01 "0"
        < 60 45 0008  c0 20 ff "ACME"
    """,
    "options that its parser does not know make it reset the message, elective ones too": """
        > 44 01 0009 01020304  b1 "3" 01 "0" 01 "0"  d0ee   # 258, No-Response: too far for it
        < 70 00 0009
        > 44 01 000a 01020304  50 61 "x"                    # 5, If-None-Match
        < 70 00 000a
        > 44 01 000b 01020304  90                           # 9, OSCORE
        < 70 00 000b
        > 44 01 000c 01020304  b1 "3" d1fc 00               # 276, elective
        < 70 00 000c
    """,
    "a ping is reset": """
        > 40 00 000d
        < 70 00 000d
    """,
    "what is executed is answered by a confirmable message with the request's own ID": """
        > 44 02 000e 01020304  b4 "3201" 01 "0" 04 "5850"
        < 44 44 000e 01020304
        > 44 02 000e 01020304  b4 "3201" 01 "0" 04 "5850"   # once more: the answer is, too
        < 44 44 000e 01020304
        > 60 00 000e
    """,
    "a delayed resource acknowledges first, in five bytes, and answers with an ID of its own": """
        > 44 02 000f 01020304  b5 "10252" 01 "0" 01 "1" ff "x"
        < 60 00 000f c0
        < 44 44 mid1 01020304  c0
        > 60 00 mid1
    """,
    "a delayed resource does not answer a wrong format": """
        > 44 02 0010 01020304  b5 "10252" 01 "0" 01 "1" 11 2a ff "x"
        < 60 00 0010 c0
    """,
    "what is executed wants text or nothing": """
        > 44 02 0011 01020304  b4 "3201" 01 "0" 04 "5850" 11 2a ff "x"
        < 64 8f 0011 01020304
    """,
    "JSON is 4.15, a read-only resource 4.05, a missing one 4.04": """
        > 44 03 0012 01020304  b4 "3201" 01 "0" 04 "5853" 11 32 ff "{}"
        < 64 8f 0012 01020304
        > 44 03 0013 01020304  b1 "3" 01 "0" 01 "0" ff "x"
        < 64 85 0013 01020304
        > 44 03 0014 01020304  b1 "3" 01 "0" 02 "99" ff "x"
        < 64 84 0014 01020304
    """,
    "a write is 2.04, bare": """
        > 44 03 0015 01020304  b4 "3201" 01 "0" 04 "5853" ff "500:500"
        < 64 44 0015 01020304
    """,
    "a lifetime of less than a minute, or none, is 4.06": """
        > 44 03 0016 01020304  b1 "1" 01 "0" 01 "1" ff "59"
        < 64 86 0016 01020304
        > 44 03 0017 01020304  b1 "1" 01 "0" 01 "1" ff "soon"
        < 64 86 0017 01020304 ...
    """,
    "observing, and ceasing to": """
        > 44 01 0018 0a0b0c0d  60 54 "3200" 01 "0" 04 "5501"
        < 64 45 0018 0a0b0c0d  60 60 20 ff "7"
        > 44 01 0019 0a0b0c0d  61 01 54 "3200" 01 "0" 04 "5501"
        < 64 45 0019 0a0b0c0d  60 60 20 ff "7"
    """,
    "an instance cannot be observed, and says so in words": """
        > 44 01 001a 01020304  60 54 "3200" 01 "0"
        < 64 85 001a 01020304  ff ...
    """,
    "a read of an instance in text is 4.06": """
        > 44 01 001b 01020304  b4 "3200" 01 "0" 60
        < 64 86 001b 01020304
    """,
    "nothing can be deleted": """
        > 44 04 001c 01020304  b4 "3200" 01 "0"
        < 64 85 001c 01020304
    """,
    "the current time is not there before anybody has told it": """
        > 44 01 001d 01020304  b1 "3" 01 "0" 02 "13"
        < 64 84 001d 01020304
    """,
}


@pytest.mark.parametrize("transcript", TRANSCRIPTS.values(), ids=TRANSCRIPTS.keys())
def test_transcripts(play: Callable[..., None], transcript: str) -> None:
    async def story(probe: Probe, client: SimpleMbedCloudClient) -> None:
        await probe.play(transcript)
        await probe.silence(1)

    play(story)


def test_a_large_write_comes_in_blocks_under_one_token(play: Callable[..., None]) -> None:
    """A payload over 512 B is refused with a hint; with another token each, blocks before the last are lost."""
    value = (b"v" * 600).hex()
    path = 'b4 "3201" 01 "0" 04 "5853"'

    async def story(probe: Probe, client: SimpleMbedCloudClient) -> None:
        await probe.play(f"""
            > 44 03 0001 01020304  {path} ff {value}
            < 64 8d 0001 01020304  d001 d100 0d
            > 44 03 0002 01020304  {path} d103 0d d214 0258 ff {value[:1024]}
            < 64 5f 0002 01020304  d001 d100 0d
            > 44 03 0003 01020304  {path} d103 15 ff {value[1024:]}
            < 64 44 0003 01020304  d001 d100 15
        """)
        pattern = next(each for each in client._resources if each.name == "pattern")
        assert pattern.get_value() == "v" * 600
        whole = (b"\xf0\x16\xdd\x02\x58" + b"w" * 600).hex()
        await probe.play(f"""
            > 44 03 0004 01020304  {path} 12 2d16 d102 0d d214 025d ff {whole[:1024]}
            < 64 5f 0004 01020304  d001 d100 0d
            > 44 03 0005 05060708  {path} 12 2d16 d102 15 ff {whole[1024:]}
            < 64 80 0005 05060708 ...
        """)
        assert pattern.get_value() == "v" * 600

    play(story)


def test_a_large_read_comes_in_blocks_of_512_with_its_size(play: Callable[..., None]) -> None:
    """Block2 SZX 5 and Size2; who asks for 1024 gets 512."""
    path = 'b4 "5000" 01 "0" 01 "2"'

    async def story(probe: Probe, client: SimpleMbedCloudClient) -> None:
        first = (await ask(probe, f"44 01 0001 01020304 {path}"))[0]
        assert first[:4] == bytes.fromhex("64450001")
        assert bytes.fromhex("91 0d 52 0500 ff") in first, "Block2 0/1/512 after Max-Age, Size2 1280"
        again = (await ask(probe, f"44 01 0002 01020304 {path} c1 06"))[0]
        assert bytes.fromhex("91 0d") in again[:24]

    async def ask(probe: Probe, message: str) -> list[bytes]:
        await probe.play(f"> {message}")
        return [await probe.read()]

    play(story)


def test_a_sixth_notification_waits_until_one_of_five_is_acknowledged(play: Callable[..., None]) -> None:
    """docs/wire.md 1.9: the resend queue of five; the application hears that it was full."""

    async def story(probe: Probe, client: SimpleMbedCloudClient) -> None:
        told: list[NotificationDeliveryStatus] = []
        resources: list[MbedCloudClientResource] = []
        for number in range(7):
            resource = client.create_resource(f"3303/0/{5700 + number}", "t")
            resource.observable(True)
            resource.set_value("0")
            resource.attach_notification_callback(lambda _, status: told.append(status))
            resources.append(resource)
            await probe.play(f'> 44 01 00{number:02x} 0000000{number}  60 54 "3303" 01 "0" 04 "570{number}"')
            await probe.read()
        await asyncio.sleep(2)
        for resource in resources:
            resource.set_value("1")
        await asyncio.sleep(0.5)
        sent = [await probe.read() for _ in range(5)]
        assert probe.heard.empty() and all(each[0] == 0x44 for each in sent)
        assert told.count(NotificationDeliveryStatus.RESEND_QUEUE_FULL) == 2
        for each in sent:
            await probe.write(b"\x60\0" + each[2:4])
        rest = [await probe.read() for _ in range(2)]
        for each in rest:
            await probe.write(b"\x60\0" + each[2:4])
        await asyncio.sleep(1)
        assert {each[4:8].hex() for each in [*sent, *rest]} == {f"0000000{number}" for number in range(7)}
        assert told.count(NotificationDeliveryStatus.DELIVERED) == 7

    play(story)
