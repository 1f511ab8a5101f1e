"""A campaign's device closely, by REST: why it ended so, and its own words where it has any."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pdmlab.lwm2m import tlv
from pdmlab.update import device_words
from tests.service.fota import manifest_v3
from tests.service.restlab import LINKS, Device, RestLab

SLOTS = {"slots": [{"name": "active", "medium": "FLASHIAP", "offset": 65536, "size": 4096, "state": "whole"}]}
WORDS = tlv.encode(
    [
        tlv.resource(device_words.BOOTLOADER, b"fota"),
        tlv.resource(device_words.SLOTS, json.dumps(SLOTS).encode()),
        tlv.resource(device_words.LOG, b"[BOOT] Candidate not found\r\n"),
        tlv.resource(device_words.REFUSAL, b"manifest rejected"),
    ]
)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[RestLab]:
    lab = RestLab(tmp_path / "lab.sqlite")
    yield lab
    lab.close()


def failed(lab: RestLab, device: Device) -> str:
    """Have a campaign fail with a device, which has no /10252/0/1; return the campaign's path."""
    manifest = manifest_v3(b"firmware" * 10, "http://nowhere/fw.bin", "2.0.0")
    made = lab.call("POST", "/v3/firmware-manifests", data={"name": "fw"}, files={"datafile": ("fw", manifest)}).json()
    wanted = {"root_manifest_id": made["id"], "device_filter": f"id={device.id}"}
    campaign = lab.call("POST", "/v3/update-campaigns", json=wanted).json()
    assert lab.call("POST", f"/v3/update-campaigns/{campaign['id']}/start").status_code == 202
    path = f"/lab/campaigns/{campaign['id']}/devices"
    lab.until(lambda: lab.core.campaigns.progress(campaign["id"]))
    lab.until(lambda: lab.core.campaigns.progress(campaign["id"])[0]["phase"] == "fail")
    row = lab.core.campaigns.progress(campaign["id"])[0]
    lab.until(lambda: lab.core.campaigns.words.of(row["id"])[1])
    return f"{path}/{device.id}"


def test_a_stock_device_is_asked_once_and_does_not_tell(lab: RestLab) -> None:
    device = lab.device("desk1", links=LINKS + ',</14/0/2>;v="1.0.0"')
    path = failed(lab, device)
    told = lab.get(path)
    assert told["words"] is None and told["told_at"] is not None and told["obstacle"] is None
    assert [each["path"] for each in told["known"]] == ["/14/0/2"]
    assert told["phase"] == "fail" and told["event_type"] == "UPD4_FAIL_101"
    assert told["reason"]["meaning"] == "The device did not take the manifest" and told["reason"]["advice"]
    assert told["round_trip_ms"] > 0 and told["block_B"] == 512 and told["left_s"] is None
    assert [each for each in device.asked if "26241" in each] == ["GET /26241/0"]


def test_a_devices_own_words_are_kept_when_it_has_failed_and_asked_on_demand(lab: RestLab) -> None:
    device = lab.device()
    device.values["/26241/0"] = WORDS
    path = failed(lab, device)
    words = lab.get(path)["words"]
    assert (words["bootloader"], words["log"]) == ("fota", "[BOOT] Candidate not found")
    assert words["refusal"] == "manifest rejected" and words["slots"][0]["offset"] == 65536
    device.values["/26241/0"] = WORDS.replace(b"not found", b"is whole ")[:-1] + b"!"
    asked = lab.call("POST", f"{path}/words")
    assert asked.status_code == 200 and asked.json()["words"]["log"] == "[BOOT] Candidate is whole"
    assert lab.get(path) == asked.json()
    lab.restart()
    assert lab.get(path)["words"]["log"] == "[BOOT] Candidate is whole"


def test_a_device_that_cannot_be_asked_is_409_and_says_why(lab: RestLab) -> None:
    device = lab.device()
    path = failed(lab, device)
    device.deregister()
    refused = lab.call("POST", f"{path}/words")
    assert refused.status_code == 409 and "not registered" in refused.text
    assert "not registered" in lab.get(path)["obstacle"]


def test_others_and_readers_may_not_ask(lab: RestLab) -> None:
    device = lab.device()
    path = failed(lab, device)
    reader = lab.new_key("reader", group="Readers")
    assert lab.get(path, key=reader)["phase"] == "fail"
    assert lab.call("POST", f"{path}/words", key=reader).status_code == 403
    assert lab.call("GET", path[:-1] + ("0" if path[-1] != "0" else "1")).status_code == 404
    assert lab.call("POST", f"/lab/campaigns/{'0' * 32}/devices/{device.id}/words").status_code == 404
