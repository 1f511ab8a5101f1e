"""The client against transcripts of servers in bytes, in virtual time."""

from __future__ import annotations

import asyncio
import datetime
import functools
import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from pdmlab.client import SimpleMbedCloudClient
from pdmlab.client.resource import M2MMethod
from pdmlab.update.credentials import UpdateResources
from pdmlab.update.developer import update_certificate
from tests.client.bench import ACCOUNT, BS_PORT, LWM2M_PORT, Bench, updatable
from tests.client.hub_bench import HubBench
from tests.transcripts.script import Bytes, Transcript
from tests.transcripts.stage import Port, play

HERE = Path(__file__).parent / "client"
DEVICE = "0170f1a4b5c6000000000001001000aa"
KEY = ec.derive_private_key(0x5EED, ec.SECP256R1())
IMAGE = bytes(n % 251 for n in range(600))
# Manifest: vendor, class, priority, component, version, SHA-256, size 600, URI, format 1, no image signature.
MANIFEST = (
    '30 6b  04 10 "vvvvvvvvvvvvvvvv"  04 10 "cccccccccccccccc"  02 01 00  0c 04 "MAIN"  0c 05 "1.0.1"'
    '  04 20 $digest  02 02 0258  0c 0a "http://s/1"  0a 01 01  04 00'
)
# Resource: no URI, type 0; Manifest: version 1, timestamp, vendor, class, no device, no nonce, no vendor's data, apply
# at once, encryption mode 2, no aliases, no dependencies; Payload: format 1, storage, SHA-256, URI, size 600.
MANIFEST_V1 = (
    '30 81 84  0a 01 00  30 7f  0a 01 01  02 04 66000000  04 10 "vvvvvvvvvvvvvvvv"  04 10 "cccccccccccccccc"'
    "  04 00  04 00  04 00  01 01 ff  0a 01 02  30 00  30 00"
    '  30 40  0a 01 01  0c 07 "default"  30 32  04 20 $digest  0c 0a "http://s/1"  02 02 0258'
)


def update_bytes() -> dict[str, bytes]:
    """Return the image in two blocks, its manifest, and signatures of it that are right and wrong."""
    signed = Bytes({"digest": hashlib.sha256(IMAGE).digest()}).write(MANIFEST)
    r, s = utils.decode_dss_signature(KEY.sign(signed, ec.ECDSA(hashes.SHA256())))
    signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    wrong = bytes([signature[0] ^ 1]) + signature[1:]
    return {
        "first": IMAGE[:512],
        "second": IMAGE[512:],
        "signed": signed,
        "signature": signature,
        "wrong": wrong,
        "manifest_v1": signed_v1(KEY),
        "wrong_v1": signed_v1(ec.derive_private_key(0xBAD, ec.SECP256R1())),
    }


def signed_v1(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the manifest v1 with its SHA-256, a signature of any key, and the fingerprint of the right certificate."""
    resource = Bytes({"digest": hashlib.sha256(IMAGE).digest()}).write(MANIFEST_V1)
    signature = key.sign(resource, ec.ECDSA(hashes.SHA256()))  # 68 to 72 B
    known = {
        "resource": resource,
        "digest": hashlib.sha256(resource).digest(),
        "signature": signature,
        "fingerprint": hashlib.sha256(certificate()).digest(),
        "s": bytes([len(signature)]),
        "block": bytes([len(signature) + 42]),
        "blocks": bytes([len(signature) + 44]),
        "signatures": bytes([len(signature) + 80]),
        "size": (len(signature) + 218).to_bytes(2, "big"),
    }
    return Bytes(known).write(
        "30 82 $size  $resource  30 81 $signatures  04 20 $digest"
        "  30 $blocks  30 $block  04 $s $signature  30 26  30 24  04 20 $fingerprint  0c 00"
    )


@functools.cache
def certificate() -> bytes:
    """Return the update certificate that boards have here."""
    return update_certificate(KEY, "company.com", datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC))


class Side:
    """The servers' side: their ports, and what a transcript may ask for besides bytes."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        cloud = bench.fabric.host("cloud")
        self.ports = {"bs": Port(cloud, BS_PORT, None), "rd": Port(cloud, LWM2M_PORT, None)}
        self.known = {"aid": ACCOUNT.encode(), "dev": DEVICE.encode(), "long": b"x" * 513, **update_bytes()}
        self.calls = {"start": self.start, "register": self.register, "change": self.change, "close": self.close}
        self.calls |= {"blocks": self.blocks, "restarted": self.restarted}
        self.client: SimpleMbedCloudClient

    def prepare(self, client: SimpleMbedCloudClient) -> None:
        """Offer what the application has: a counter, a pattern to write, a long text, and what is executed."""
        self.counter = client.create_resource("3200/0/5501", "counter")
        self.counter.set_value(7)
        self.counter.methods(M2MMethod.GET)
        self.counter.observable(True)
        pattern = client.create_resource("3201/0/5853", "pattern")
        pattern.set_value("500:500")
        pattern.methods(M2MMethod.GET | M2MMethod.PUT)
        long = client.create_resource("5000/0/2", "long")
        long.set_value("0" * 1200)
        long.methods(M2MMethod.GET)
        blink = client.create_resource("3201/0/5850", "blink")
        blink.methods(M2MMethod.POST)
        blink.attach_post_callback(lambda resource, payload: None)

    async def start(self) -> None:
        """Boot the board; its client bootstraps and registers."""
        self.client = await self.bench.connect(self.prepare)

    async def register(self) -> None:
        """Boot, bootstrap and register, as the transcript of that says."""
        fixed = dict(self.known)
        await play(Transcript.read(HERE / "2.1-first-boot.txt"), self.ports, self.known, self.calls)
        await asyncio.sleep(1)  # the answer to the last block is on its way
        self.known.clear()
        self.known.update(fixed)  # the names of that transcript are not the next one's

    async def blocks(self) -> None:
        """Answer the blocks of a registration but the first: how many there are hangs on how much the device has."""
        port, number, more = self.ports["rd"], 1, True
        head = Bytes(self.known).write(
            'b2 "rd" 11 28 20 19 "ep=desk-1" 0a "et=default" 07 "lt=7200" 09 "lwm2m=1.0" 03 "b=U"'
            ' 0d 17 "aid=" $aid 0d 17 "iep=" $dev c1'
        )
        while more:
            block = await port.receive(10)
            assert block is not None and block[:2] == b"\x44\x02", "a CON POST with a token of 4 B"
            assert block[4:8] == self.known["t3"], "the same token for all blocks"
            assert block[8:].startswith(head), "the same options in all blocks, and Size1 in the first only"
            told = block[8 + len(head)]
            more = bool(told & 8)
            assert told == number << 4 | more << 3 | 5, "the next block, of 512 B"
            mid = block[2:4]
            answer = '64 41 $mid $t3 82 "rd" 0d 13 $aid 0d 13 $dev d1 06 $told'
            known = {**self.known, "mid": mid, "told": bytes([told])}
            port.send(Bytes(known).write("64 5f $mid $t3 d1 0e $told" if more else answer))
            number += 1

    async def change(self) -> None:
        """Change the counter's value, as an application does."""
        await self.bench.device(lambda: self.counter.set_value(self.counter.get_value_int() + 1))

    async def restarted(self) -> None:
        """Wait until the board restarts itself."""
        await self.bench.restarted.wait()

    async def close(self) -> None:
        """Close the client, as an application does."""
        self.client.close()


@pytest.mark.parametrize("path", sorted(HERE.glob("*.txt")), ids=lambda path: path.stem)
def test_the_client_says_what_the_transcript_says(path: Path) -> None:
    transcript = Transcript.read(path)
    assert transcript.steps and transcript.head["statement"] and transcript.head["about"]
    bench = HubBench() if transcript.head.get("board") == "hub" else Bench()
    resources = UpdateResources(b"v" * 16, b"c" * 16, certificate())
    if transcript.head.get("board") == "updatable":
        updatable(bench, resources)
    elif transcript.head.get("board") == "hub":
        bench.image.update_resources = dict(resources.to_mapping())

    async def story() -> None:
        side = Side(bench)
        await play(transcript, side.ports, side.known, side.calls)
        await asyncio.sleep(0)

    bench.play(story)
