"""The service against transcripts of the stock client's bytes, in virtual time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.service.corelab import CoreLab
from tests.service.corelab import play as play_story
from tests.transcripts.script import Bytes, Transcript
from tests.transcripts.stage import Port, play

HERE = Path(__file__).parent / "service"
IMAGE = bytes(n % 251 for n in range(600))


class Side:
    """The device's side: its ports, and what a transcript may ask for besides bytes."""

    def __init__(self, lab: CoreLab) -> None:
        self.lab = lab
        host, service = lab.fabric.host("desk1"), lab.fabric.host("service").address
        self.ports = {"bs": Port(host, 5700, (service, 5683)), "rd": Port(host, 5701, (service, 5685))}
        # 1126 B of links, cut anywhere: the service has to put them together before it reads them.
        links = b",".join(b'</3303/%d/5700>;v="21.5";aobs="%d"' % (n, n + 1) for n in range(40))
        links = links[: links.rindex(b",", 0, 1100)]
        links += b',</5000/0/1>;rt="' + b"x" * (1126 - len(links) - 18) + b'"'
        assert len(links) == 1126
        self.known = {
            "aid": lab.core.account_id.encode(),
            "block0": links[:512],
            "block1": links[512:1024],
            "block2": links[1024:],
            "first": IMAGE[:512],
            "second": IMAGE[512:],
        }
        self.calls = {"bootstrap": self.bootstrap, "register": self.register, "upload": self.upload}

    async def bootstrap(self) -> None:
        """Make the device known, as its bootstrap would; $dev is its id."""
        device = self.lab.core.directory.add(self.lab.core.account_id, endpoint_name="desk1")
        self.known["dev"] = device["id"].encode()

    async def register(self) -> None:
        """Register with one resource."""
        text = Bytes(self.known).write(
            '44 02 ff01 e1e2e3e4 b2 "rd" 11 28 38 "ep=desk1" 07 "lt=7200" 0d 17 "aid=" $aid'
            ' 0d 17 "iep=" $dev ff "</3/0/0>"'
        )
        self.ports["rd"].send(text)
        answer = await self.ports["rd"].receive(10)
        assert answer is not None and answer[1] == 0x41

    async def upload(self) -> None:
        """Upload an image of 600 B; $image is its id."""
        self.known["image"] = self.lab.core.firmware.add_image(self.lab.core.account_id, "image", IMAGE)["id"].encode()


@pytest.mark.parametrize("path", sorted(HERE.glob("*.txt")), ids=lambda path: path.stem)
def test_the_service_says_what_the_transcript_says(path: Path, tmp_path: Path) -> None:
    transcript = Transcript.read(path)
    assert transcript.steps and transcript.head["statement"] and transcript.head["about"]

    async def story(lab: CoreLab) -> None:
        side = Side(lab)
        await play(transcript, side.ports, side.known, side.calls)
        await asyncio.sleep(0)

    play_story(story, tmp_path / "lab.sqlite")
