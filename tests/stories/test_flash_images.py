"""A campaign on a board that is laid out as 4.x builds for K64F are: its whole flash, read by a stranger."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from pdmlab.measurements.virtual_lab import VirtualLab, play
from pdmlab.network.link import Link
from pdmlab.update.candidate import CandidateSlot
from tests.sim.test_flash_layout import LAYOUT_4X
from tests.stories.test_candidates import campaign, registered
from tests.update.bootloaders import second

K = 1024
PAGED = {"fota": {"resume-support": "FOTA_RESUME_SUPPORT_RESUME"}}


@pytest.mark.parametrize("options", [{}, PAGED], ids=["at once", "in pages"])
def test_what_a_download_leaves_is_installed_by_whoever_reads_it_as_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    (tmp_path / "mbed_app.json").write_text(json.dumps({"target_overrides": {"K64F": LAYOUT_4X}}), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    flashes: list[bytes] = []

    async def story(lab: VirtualLab) -> None:
        old, new = (lab.build(each, size=40 * K, options=options) for each in ("1.0.0", "1.0.1"))
        await registered(lab, old)
        assert lab.board.layout.candidate.offset == second.SLOT
        finish = CandidateSlot.finish

        def read_out(slot: CandidateSlot) -> None:
            flashes.append(lab.board.flash_image())
            finish(slot)
            flashes.append(lab.board.flash_image())

        monkeypatch.setattr(CandidateSlot, "finish", read_out)
        row = await campaign(lab, new)
        assert row["phase"] == "success", (row["description"], lab.read_console())
        flashes.append(lab.board.flash_image())
        before, ready, after = map(second.look, flashes)
        assert before.active_is_whole and before.reasons == {"no ready marker"}
        assert ready.installs and ready.image == new
        assert after.active_is_whole and not after.installs
        assert hashlib.sha256(flashes[2][second.ACTIVE_IMAGE :][: len(new)]).digest() == hashlib.sha256(new).digest()

    play(story, "K64F", seed=3, link=Link(latency=5_000_000))
