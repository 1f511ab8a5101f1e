"""UpdateAPI and the Foundation layer's update entities: images, manifests and campaigns by the vendor's SDK."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from pdmlab.update.manifest import Manifest
from tests.sdk.lab import SdkLab
from tests.sdk.updatable import Fota

IMAGE = b"firmware" * 1000
KEY = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def desk(lab: SdkLab, request: pytest.FixtureRequest) -> Fota:
    made = lab.device(request.node.name[:60], kind=Fota)
    assert isinstance(made, Fota)
    return made


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Return an image, and a manifest for whatever lies at an address that a script fills in."""
    (tmp_path / "fw.bin").write_bytes(IMAGE)
    return {"image": str(tmp_path / "fw.bin"), "manifest": str(tmp_path / "fw.manifest")}


def signs(files: dict[str, str], lab: SdkLab, version: str = "1.0.1") -> dict[str, Any]:
    """Return the step at which the latest image's manifest is made."""

    def sign() -> None:
        uri = lab.rest.get("/v3/firmware-images", params={"order": "DESC"}).json()["data"][0]["datafile"]
        manifest = Manifest.for_image(IMAGE, version=version, uri=uri, vendor_id=bytes(16), class_id=bytes(16))
        Path(files["manifest"]).write_bytes(manifest.sign(KEY))

    return {"uploaded": sign}


def test_images_and_manifests_are_added_got_listed_and_deleted(lab: SdkLab, files: dict[str, str]) -> None:
    said = lab.run(
        """
from mbed_cloud import UpdateAPI

update = UpdateAPI(config)
image = update.add_firmware_image("sdk image", given["image"], description="of the SDK")
again = update.get_firmware_image(image.id)
said["image"] = [again.name, again.description, again.datafile_size, again.datafile_checksum, again.url == image.url]
found = update.list_firmware_images(filters={"name": {"$eq": "sdk image"}}, order="desc", limit=5)
said["images"] = [each.id == image.id for each in found]
said["counted"] = len(update.list_firmware_images())
step("uploaded")
manifest = update.add_firmware_manifest("sdk manifest", given["manifest"], description="signed",
                                        key_table_file=given["image"])
again = update.get_firmware_manifest(manifest.id)
said["manifest"] = [again.name, again.description, again.device_class, str(again.timestamp)[:2], again.datafile_size]
said["key table"] = again.key_table_url
said["manifests"] = [each.id == manifest.id for each in update.list_firmware_manifests(
    filters={"device_class": {"$eq": "0" * 32}, "name": {"$neq": "other"}})]
update.delete_firmware_manifest(manifest.id)
update.delete_firmware_image(image.id)
said["gone"] = [update.get_firmware_image(image.id), update.get_firmware_manifest(manifest.id)]
""",
        steps=signs(files, lab),
        **files,
    )
    assert said["image"] == ["sdk image", "of the SDK", len(IMAGE), hashlib.sha256(IMAGE).hexdigest(), True]
    assert said["images"] == [True] and said["counted"] == 1
    size = len(Path(files["manifest"]).read_bytes())
    assert said["manifest"] == ["sdk manifest", "signed", "0" * 32, "20", size]
    assert said["key table"].startswith(lab.service.url) and said["manifests"] == [True]
    assert said["gone"] == [None, None]


@pytest.mark.slow
def test_a_campaign_goes_to_autostopped_and_its_device_runs_the_new_version(
    lab: SdkLab, files: dict[str, str], desk: Fota
) -> None:
    said = lab.run(
        """
import time
from mbed_cloud import UpdateAPI

update, device = UpdateAPI(config), given["device"]
image = update.add_firmware_image("image", given["image"])
step("uploaded")
manifest = update.add_firmware_manifest("manifest", given["manifest"])
campaign = update.add_campaign("sdk campaign", {"id": {"$eq": device}, "state": {"$eq": "registered"}},
                               manifest_id=manifest.id, description="by the SDK")
said["draft"] = [campaign.state, campaign.phase, campaign.device_filter, campaign.manifest_id == manifest.id]
campaign.description = "changed"
campaign = update.update_campaign(campaign)
said["changed"] = update.get_campaign(campaign.id).description
started = update.start_campaign(campaign)
said["started"] = [started.state, started.phase]
states = []
while True:
    now = update.get_campaign(campaign.id)
    if not states or states[-1] != now.state:
        states.append(now.state)
    if now.state in ("autostopped", "userstopped", "expired", "conflict"):
        break
    time.sleep(0.2)
said["states"], said["phase"] = states, now.phase
said["times"] = [now.started_at is not None, now.finished_at >= now.started_at, now.scheduled_at]
said["devices"] = [[each.device_id, each.state, each.mechanism, each.description]
                   for each in update.list_campaign_device_states(campaign.id, order="asc")]
said["listed"] = [each.id == campaign.id for each in update.list_campaigns(
    filters={"state": {"$in": ["autostopped", "draft"]}, "name": {"$eq": "sdk campaign"}})]
update.delete_campaign(campaign.id)
said["gone"] = update.get_campaign(campaign.id)
update.delete_firmware_manifest(manifest.id)
update.delete_firmware_image(image.id)
""",
        steps=signs(files, lab),
        device=desk.id,
        **files,
    )
    filtered = {"id": {"$eq": desk.id}, "state": {"$eq": "registered"}}
    assert said["draft"] == ["draft", "draft", filtered, True] and said["changed"] == "changed"
    assert said["started"] == ["scheduled", "starting"]
    assert said["states"][-1] == "autostopped" and "deployed" not in said["states"] and said["phase"] == "stopped"
    assert said["times"] == [True, True, None]
    assert said["devices"] == [[desk.id, "deployed", "connector", "The device runs 1.0.1"]]
    assert said["listed"] == [True] and said["gone"] is None
    assert desk.image == IMAGE and desk.installed == ["1.0.1"]


def test_a_time_that_the_sdk_sends_back_wrongly_spoils_no_list(lab: SdkLab, files: dict[str, str], desk: Fota) -> None:
    said = lab.run(
        """
import datetime
from mbed_cloud import UpdateAPI

update = UpdateAPI(config)
update.add_firmware_image("image", given["image"])
step("uploaded")
manifest = update.add_firmware_manifest("manifest", given["manifest"])
campaign = update.add_campaign("later", {"id": {"$eq": given["device"]}}, manifest_id=manifest.id,
                               scheduled_at=datetime.datetime(2040, 1, 1))
said["at"] = [str(campaign.scheduled_at)]
started = update.start_campaign(campaign)  # a PUT with 2040-01-01T00:00:00+00:00Z
said["at"].append(str(started.scheduled_at))
said["at"] += [str(each.scheduled_at) for each in update.list_campaigns()]
said["phase"] = update.get_campaign(campaign.id).phase
try:
    update.delete_campaign(campaign.id)
except Exception as refused:
    said["refused"] = refused.status
""",
        steps=signs(files, lab),
        device=desk.id,
        **files,
    )
    assert len(said["at"]) == 3 and all(each.startswith("2040-01-01 00:00:00") for each in said["at"])
    assert said["phase"] == "starting" and said["refused"] == 409
    (campaign,) = lab.rest.get("/v3/update-campaigns", params={"phase__eq": "starting"}).json()["data"]
    assert lab.rest.post(f"/v3/update-campaigns/{campaign['id']}/stop").status_code == 202
    assert desk.installed == []


@pytest.mark.slow
def test_the_foundation_layer_updates_a_device_and_reads_what_became_of_it(
    lab: SdkLab, files: dict[str, str], desk: Fota
) -> None:
    said = lab.run(
        """
import time
from mbed_cloud.client.api_filter import ApiFilter

entities = foundation().foundation
image = entities.firmware_image(name="foundation", description="image")
image.create(given["image"])
said["image"] = [image.datafile_size, entities.firmware_image(id=image.id).read().datafile_checksum,
                 [each.id == image.id for each in entities.firmware_image().list(
                     filter={"name": {"eq": "foundation"}, "datafile_size": {"eq": image.datafile_size}})]]
step("uploaded")
manifest = entities.firmware_manifest(name="foundation", description="signed")
manifest.create(given["manifest"])
said["manifest"] = [manifest.device_class, entities.firmware_manifest(id=manifest.id).read().name,
                    [each.id == manifest.id for each in entities.firmware_manifest().list(
                        filter={"device_class": {"eq": manifest.device_class}, "id": {"in": [manifest.id]}})]]
wanted = ApiFilter()
wanted.add_filter("id", "eq", given["device"])
campaign = entities.update_campaign(name="foundation", description="", root_manifest_id=manifest.id)
campaign.device_filter_helper = wanted
campaign.create()
said["filter"] = [campaign.device_filter, str(campaign.device_filter_helper.to_api())]
campaign.description = "changed"
campaign.update()
said["draft"] = [campaign.read().phase, campaign.description]
campaign.start()
said["running"] = campaign.read().phase
while campaign.read().phase != "stopped":
    time.sleep(0.2)
said["reason"] = campaign.autostop_reason
metadata = list(campaign.device_metadata())
said["metadata"] = [[each.device_id, each.deployment_state, each.campaign_id == campaign.id] for each in metadata]
one = entities.campaign_device_metadata(id=metadata[0].id, campaign_id=campaign.id).read()
said["one"] = [one.device_id, one.deployment_state, one.mechanism]
said["statistics"], said["events"] = {}, []
for each in entities.campaign_statistics(campaign_id=campaign.id).list():
    said["statistics"][each.id] = [each.count, each.summary_status, each.campaign_id == campaign.id]
    # What a list gives has the SDK's own host in it: entities that are made here have the lab's.
    for event in entities.campaign_statistics(id=each.id, campaign_id=campaign.id).events():
        said["events"].append([event.id, event.event_type, event.count, event.summary_status_id, event.description])
        read = entities.campaign_statistics_events(
            id=event.id, campaign_id=campaign.id, summary_status_id=event.summary_status_id).read()
        said["read"] = [read.event_type, read.count]
said["success"] = entities.campaign_statistics(id="success", campaign_id=campaign.id).read().count
campaign.archive()
said["archived"] = campaign.read().phase
said["listed"] = [each.id == campaign.id for each in entities.update_campaign().list(
    filter={"name": {"eq": "foundation"}, "created_at": {"gte": campaign.created_at}})]
try:
    campaign.start()
except Exception as refused:
    said["refused"] = refused.status_code
campaign.delete()
manifest.delete()
image.delete()
said["gone"] = [len(entities.update_campaign().list(filter={"name": {"eq": "foundation"}}))]
""",
        steps=signs(files, lab),
        device=desk.id,
        **files,
    )
    assert said["image"] == [len(IMAGE), hashlib.sha256(IMAGE).hexdigest(), [True]]
    assert said["manifest"] == ["0" * 32, "foundation", [True]]
    assert said["filter"][0] == f"id__eq={desk.id}" and desk.id in said["filter"][1]
    assert said["draft"] == ["draft", "changed"] and said["running"] in ("starting", "active")
    assert said["reason"] == "all devices are done: 1 success"
    assert said["metadata"] == [[desk.id, "deployed", True]]
    assert said["one"] == [desk.id, "deployed", "connector"]
    assert {id: counted for id, (counted, *_) in said["statistics"].items()} == {
        "fail": 0,
        "success": 1,
        "info": 0,
        "skipped": 0,
    }
    assert said["statistics"]["success"] == [1, "SUCCESS", True] and said["success"] == 1
    assert said["events"] == [["upd_success_100", "UPD4_SUCCESS_100", 1, "success", "The device runs the new version"]]
    assert said["read"] == ["UPD4_SUCCESS_100", 1]
    assert said["archived"] == "archived" and said["refused"] == 409 and said["listed"] == [True]
    assert said["gone"] == [0] and desk.installed == ["1.0.1"]


def test_the_foundation_layer_stops_a_campaign(lab: SdkLab, files: dict[str, str], desk: Fota) -> None:
    desk.silent = True
    said = lab.run(
        """
import time

entities = foundation().foundation
image = entities.firmware_image(name="image")
image.create(given["image"])
step("uploaded")
manifest = entities.firmware_manifest(name="manifest")
manifest.create(given["manifest"])
campaign = entities.update_campaign(name="stopped", root_manifest_id=manifest.id,
                                    device_filter="id__eq=" + given["device"])
campaign.create().start()
campaign.stop()
while campaign.read().phase != "stopped":
    time.sleep(0.05)
said["metadata"] = [each.deployment_state for each in campaign.device_metadata()]
campaign.delete()
""",
        steps=signs(files, lab),
        device=desk.id,
        **files,
    )
    assert said["metadata"] in (["manifestremoved"], [])  # stopped before it began, it has no device
    assert desk.installed == []
