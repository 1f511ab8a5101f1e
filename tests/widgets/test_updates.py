"""The view of a campaign: how far each device is, and closely why it failed, its slots and its bootloader's log."""

import base64

import pandas as pd
import pytest

from pdmlab.cloud.campaign_device import CampaignDevice
from pdmlab.errors import ServiceError
from pdmlab.widgets.updates import SHOWN, CampaignView, last_start

DEVICE = "0" * 32
WORDS = {
    "bootloader": "fota",
    "log": "[BOOT] Searching\n[BOOT] Flashing 0%\n[BOOT] Flashing 50%\n[BOOT] Flashing 100%\n[BOOT] Done",
    "refusal": "version 1.0.0 is not greater than <1.1.0>",
    "media": {"FLASHIAP": 0x100000},
    "areas": [["bootloader", 0, 0x10000]],
    "slots": [
        {
            "name": "active", "medium": "FLASHIAP", "offset": 0x10000, "size": 0xEE000, "state": "whole", "detail": "",
            "header": {"size": 0x30000, "version": "1.1.0", "number": 1, "digest": "ab" * 32, "more": {"flags": "2"}},
        },
        {"name": "candidate", "medium": "SD", "offset": 0x4000000, "size": 0x200000, "state": "empty", "header": None},
    ],
}  # fmt: skip
TOLD = {
    "device_id": DEVICE, "endpoint_name": "desk", "phase": "fail", "description": "Result 27", "left_s": None,
    "reason": {"result": 27, "meaning": "the version is not greater", "advice": "give the image a greater version"},
    "words": WORDS, "told_at": "2026-11-26T08:00:00.000000Z", "known": [],
}  # fmt: skip


class Campaign:
    """A campaign whose device gets a block at each look."""

    id = "1" * 32

    def __init__(self, told=TOLD, devices=1):
        self.done = 0
        self.phase = "active"
        self.told = told
        self.devices = devices
        self.asked = []

    @property
    def info(self):
        return {"name": "to <2.0.0>", "phase": self.phase}

    def progress(self):
        self.done = min(self.done + 512, 1536)
        left = 12.3 if self.done < 1024 else None
        self.phase = "stopped" if self.done >= 1536 else "active"
        rows = [
            {"device_id": f"{n:032x}", "endpoint_name": f"desk-{n}", "phase": "downloading", "done_B": self.done,
             "total_B": 1536, "left_s": left, "left_from": "predicted", "description": "loads"}
            for n in range(self.devices)
        ]  # fmt: skip
        return pd.DataFrame(rows)

    def device(self, device):
        self.asked.append(device)
        if self.told is None:
            raise ServiceError("no such device", status=404)
        return CampaignDevice(self.told)


class Board:
    """A board whose console has printed these lines."""

    def __init__(self, *lines):
        self.lines = lines

    @property
    def console(self):
        return self

    @property
    def transcript(self):
        return pd.DataFrame({"text": list(self.lines)})


def test_a_campaign_shows_bytes_and_time_left_until_it_has_ended():
    view = CampaignView(Campaign())
    assert "512 of 1,536 B, 12 s left (host clock, predicted). loads" in view._table()
    assert "to &lt;2.0.0&gt;" in view.phase.value and view.turns[DEVICE].description == "desk-0"
    assert view.look() and view.look()
    assert not view.look() and view.bars[DEVICE].value == 1  # one last look after its end
    assert view._campaign.asked == []  # nobody has opened it
    view.close()


def test_a_device_opens_to_its_slots_its_log_and_why_it_failed():
    view = CampaignView(Campaign())
    view.closely(DEVICE)
    panel = view.panels[DEVICE].value
    assert "The version is not greater (result 27)" in panel and "Give the image a greater version" in panel
    assert "version 1.0.0 is not greater than &lt;1.1.0&gt;" in panel
    assert 'data-area="active (whole)"' in panel and "FLASHIAP 0x10000..0xfe000" in panel and "ab" * 32 in panel
    assert "[BOOT] Flashing 0% … 100%\n[BOOT] Done" in panel
    assert panel in view._repr_mimebundle_()["text/html"]
    view._campaign.told = {**TOLD, "words": {**WORDS, "log": "[BOOT] again"}}
    view.look()
    assert "[BOOT] again" in view.panels[DEVICE].value  # it is live
    view.turns[DEVICE].value = False
    assert view.panels[DEVICE].value == ""
    view.close()


def test_a_stock_board_is_said_not_to_tell_and_its_console_is_shown_instead():
    value = base64.b64encode(b"1.0.0").decode()
    known = [{"path": "/14/0/2", "payload": value, "ct": "text/plain"}]
    board = Board("hello", "Mbed Bootloader", "Update image is older", "booting...", f"Device ID: {DEVICE}", "more")
    view = CampaignView(Campaign({**TOLD, "words": None, "known": known}, devices=2), boards=[Board("x"), board])
    view.closely(DEVICE)
    panel = view.panels[DEVICE].value
    assert "does not tell what lies in its slots" in panel and "/14/0/2" in panel and "1.0.0" in panel
    assert "<pre>Mbed Bootloader\nUpdate image is older\nbooting...</pre>" in panel
    view.closely(f"{1:032x}")
    assert "<pre>" not in view.panels[f"{1:032x}"].value  # which board that is, nobody knows
    view.close()


def test_what_cannot_be_asked_is_said_in_its_place():
    view = CampaignView(Campaign(None))
    view.closely(DEVICE)
    assert "no such device" in view.panels[DEVICE].value
    view.close()


def test_of_many_devices_the_first_have_bars_and_the_rest_are_counted():
    view = CampaignView(Campaign(devices=SHOWN + 7))
    assert len(view.bars) == SHOWN and "and 7 more" in view.more.value
    view.close()


@pytest.mark.parametrize(
    ("lines", "start"),
    [
        ([], []),
        (["hello"], []),
        (["Mbed Bootloader", "a", "booting...", "b", "Mbed Bootloader", "c", "booting...", "d"],
         ["Mbed Bootloader", "c", "booting..."]),
        (["[BOOT] Bootloader build at: x", "", "[BOOT] All clear. Jumping to application (at address 0x10400).", "d"],
         ["[BOOT] Bootloader build at: x", "", "[BOOT] All clear. Jumping to application (at address 0x10400)."]),
        (["Trial bootloader: it starts signed images only", "[BOOT] Starting 1.0.0, confirmed", "d"],
         ["Trial bootloader: it starts signed images only", "[BOOT] Starting 1.0.0, confirmed"]),
        (["Mbed Bootloader", "stays"], ["Mbed Bootloader", "stays"]),
    ],
)  # fmt: skip
def test_of_a_console_the_last_start_is_shown(lines, start):
    assert last_start(lines) == start


def test_a_device_is_read_as_a_frame_and_in_words():
    device = CampaignDevice(TOLD)
    slots = device.slots()
    assert list(slots["slot"]) == ["active", "candidate"] and slots["image_B"][0] == 0x30000
    assert (slots["digest"][0] == "ab" * 32 and slots["version"][1] is None) or pd.isna(slots["version"][1])
    own = "The device says: version 1.0.0 is not greater than <1.1.0>. "
    assert device.reason == own + "result 27: the version is not greater. Give the image a greater version."
    assert device.bootloader == "fota" and "Flashing 50%" in device.boot_log
    assert repr(device) == "<CampaignDevice desk, fail; active whole 1.1.0, candidate empty>"
    stock = CampaignDevice({**TOLD, "words": None, "reason": None})
    assert not stock.tells and len(stock.slots()) == 0 and stock.reason == "" and "offset_B" in stock.slots()
