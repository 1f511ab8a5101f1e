"""Update campaigns, device by device: success is the new version after the restart, failures say why."""

from __future__ import annotations

import asyncio

import pytest
from aiocoap.numbers import codes

from pdmlab.errors import ConfigError
from pdmlab.service.refusal import Refused
from pdmlab.update.results import FotaResult, FotaState
from tests.service.corelab import RESULT, VERSION, CoreLab, Stage
from tests.service.fota import IMAGE, Updatable, publish, updatable

S = FotaState


async def finished(lab: CoreLab, campaign: str, *, within: float = 3000) -> dict[str, object]:
    """Wait for a campaign's end; return the row of its first device."""
    end = lab.now() + within
    while lab.core.campaigns.find(lab.core.account_id, campaign)["phase"] != "stopped":
        assert lab.now() < end, lab.core.campaigns.progress(campaign)
        await asyncio.sleep(1)
    return lab.core.campaigns.metadata(lab.core.account_id, campaign)[0]


def counts(lab: CoreLab, campaign: str) -> dict[str, int]:
    rows = lab.core.campaigns.statistics(lab.core.account_id, campaign)
    return {row["id"]: row["count"] for row in rows if row["count"]}


def test_a_campaign_goes_from_draft_to_autostopped_and_its_device_runs_the_new_version(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        update, campaigns, account = await updatable(lab), lab.core.campaigns, lab.core.account_id
        id = publish(lab, device_filter=f"id__eq={update.device.id}&state__eq=registered")
        row = campaigns.find(account, id)
        assert (row["phase"], row["state"], row["autostop_reason"]) == ("draft", "draft", None)
        row = campaigns.start(account, id)
        assert (row["phase"], row["state"]) == ("starting", "scheduled")
        await asyncio.sleep(0.5)
        assert campaigns.find(account, id)["phase"] == "active"
        device = await finished(lab, id)
        assert (device["summary_status"], device["deployment_state"]) == ("success", "deployed")
        assert device["description"] == "The device runs 1.1.0"
        row = campaigns.find(account, id)
        assert (row["phase"], row["state"]) == ("stopped", "autostopped") and row["finished"] is not None
        assert row["autostop_reason"] == "all devices are done: 1 success"
        assert counts(lab, id) == {"success": 1}
        assert campaigns.metrics(account, id)["success_count"] == 1
        (event,) = campaigns.event_types(account, id, "success")
        assert event["event_type"] == "UPD4_SUCCESS_100" and event["count"] == 1
        assert update.image == IMAGE and update.manifests == 1
        assert lab.core.directory.find(update.device.id)["deployment"] == id
        assert campaigns.archive(account, id)["phase"] == "archived"

    play(story)


def test_the_manifest_goes_out_without_a_content_format(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        await updatable(lab)
        id = publish(lab)
        lab.core.campaigns.start(lab.core.account_id, id)
        await finished(lab, id)
        (sent,) = [m for m in lab.log if m.path == "/10252/0/1" and m.direction == "out" and m.payload_B]
        assert sent.code == "POST" and "Content-Format" not in sent.options

    play(story)


def test_a_finished_campaign_was_active_for_long_enough_to_be_seen(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        id = publish(lab, device_filter="endpoint_name=nobody")
        lab.core.campaigns.start(lab.core.account_id, id)
        await asyncio.sleep(1.9)
        assert lab.core.campaigns.find(lab.core.account_id, id)["phase"] == "active"
        await asyncio.sleep(0.2)
        row = lab.core.campaigns.find(lab.core.account_id, id)
        assert (row["phase"], row["autostop_reason"]) == ("stopped", "no device fits the filter")

    play(story)


@pytest.mark.parametrize(
    ("fail_at", "result"),
    [
        (S.PROCESSING_MANIFEST, FotaResult.MANIFEST_SIGNATURE),
        (S.PROCESSING_MANIFEST, FotaResult.VERSION_TOO_OLD),
        (S.PROCESSING_MANIFEST, FotaResult.VENDOR_MISMATCH),
        (S.AWAITING_DOWNLOAD_APPROVAL, FotaResult.DOWNLOAD_REFUSED),
        (S.DOWNLOADING, FotaResult.DOWNLOAD_FAILED),
        (S.AWAITING_INSTALL_APPROVAL, FotaResult.INSTALL_REFUSED),
        (S.UPDATING, FotaResult.INSTALL_FAILED),
    ],
)
def test_what_a_device_reports_is_explained_in_words(play: Stage, fail_at: FotaState, result: FotaResult) -> None:
    async def story(lab: CoreLab) -> None:
        update = await updatable(lab)
        update.fail_at, update.result = fail_at, result
        id = publish(lab)
        lab.core.campaigns.start(lab.core.account_id, id)
        device = await finished(lab, id)
        assert (device["summary_status"], device["result"]) == ("fail", int(result))
        assert device["deployment_state"] == "failed_connector_channel_update"
        assert result.meaning in device["description"] and result.advice in device["description"]
        (event,) = lab.core.campaigns.event_types(lab.core.account_id, id, "fail")
        assert (event["event_type"], event["count"]) == (f"UPD4_FAIL_{int(result)}", 1)
        assert event["description"].lower() == result.meaning.lower()

    play(story)


def test_a_device_that_comes_back_with_the_old_version_has_failed(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        update = await updatable(lab)
        update.installs = False
        id = publish(lab)
        lab.core.campaigns.start(lab.core.account_id, id)
        device = await finished(lab, id)
        assert device["event_type"] == "UPD4_FAIL_103"
        assert "restarted to install 1.1.0 and came back with version 1.0.0" in str(device["description"])

    play(story)


def test_a_digest_that_a_device_tells_is_not_said_to_be_a_version(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        update = await updatable(lab)
        update.installs, update.device.values[VERSION] = False, b"1.0.0"
        id = publish(lab)
        lab.core.campaigns.start(lab.core.account_id, id)
        update.on_block = lambda number: tells(update)
        device = await finished(lab, id)
        assert "came back with its old firmware (SHA-256 cf66cbd0…): see" in str(device["description"])

    async def tells(update: Updatable) -> None:
        update.device.values[VERSION] = b"cf66cbd0" * 8

    play(story)


def test_a_device_that_does_not_come_back_is_given_up(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        update = await updatable(lab)

        async def dies(**_: object) -> None:
            update.device.power_off()

        update.restart = dies  # type: ignore[method-assign]
        id = publish(lab)
        lab.core.campaigns.start(lab.core.account_id, id)
        device = await finished(lab, id)
        assert device["event_type"] == "UPD4_FAIL_102"
        assert device["description"] == "Nothing was heard for 900 s, at: the device restarts into its bootloader"

    play(story)


def test_a_device_that_refuses_the_manifest_has_failed(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        update = await updatable(lab)
        id = publish(lab)
        update.device.refuse = codes.METHOD_NOT_ALLOWED
        lab.core.campaigns.start(lab.core.account_id, id)
        device = await finished(lab, id)
        assert device["event_type"] == "UPD4_FAIL_101"
        assert device["description"] == "The device answered the manifest with 4.05 Method Not Allowed no"

    play(story)


def test_a_device_that_has_the_version_already_is_skipped(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        update = await updatable(lab)
        id = publish(lab, "1.0.0")
        lab.core.campaigns.start(lab.core.account_id, id)
        device = await finished(lab, id)
        assert (device["summary_status"], device["deployment_state"]) == ("skipped", "deployed")
        assert update.manifests == 0

    play(story)


def test_a_device_that_is_away_is_waited_for(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        update = await updatable(lab, registered=False)
        id = publish(lab)
        lab.core.campaigns.start(lab.core.account_id, id)
        await asyncio.sleep(1000)
        (row,) = lab.core.campaigns.progress(id)
        assert (row["phase"], row["done_B"], row["total_B"]) == ("waiting", 0, len(IMAGE))
        await update.device.register()
        assert (await finished(lab, id))["summary_status"] == "success"

    play(story)


def test_a_power_cut_in_mid_download_is_survived(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        update = await updatable(lab)
        id = publish(lab)

        async def cut(block: int) -> None:
            if block == 20:
                update.on_block = None
                # As the stock client does: it registers with state 2, then says 3 and 4, and goes on.
                task = asyncio.get_running_loop().create_task(resume())
                task.add_done_callback(lambda done: done.result())
                await asyncio.sleep(3600)

        async def resume() -> None:
            await update.restart(state=S.PROCESSING_MANIFEST)
            await asyncio.sleep(1)
            manifest = lab.core.campaigns.find(lab.core.account_id, id)["manifest"]
            update.manifests -= 1
            await update.update(manifest)

        update.on_block = cut
        lab.core.campaigns.start(lab.core.account_id, id)
        assert (await finished(lab, id))["summary_status"] == "success"
        assert update.manifests == 1

    play(story)


def test_a_device_that_loses_the_manifest_gets_it_again(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        update = await updatable(lab)
        id = publish(lab)
        works = update.update

        async def loses(der: bytes) -> None:
            update.device.on_manifest = works
            update.manifests += 1
            await update.restart()

        update.device.on_manifest = loses
        lab.core.campaigns.start(lab.core.account_id, id)
        assert (await finished(lab, id))["summary_status"] == "success"
        assert update.manifests == 2

    play(story)


def test_a_device_that_always_loses_the_manifest_has_failed(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        update = await updatable(lab)
        id = publish(lab)

        async def loses(der: bytes) -> None:
            update.manifests += 1
            await update.restart()

        update.device.on_manifest = loses
        lab.core.campaigns.start(lab.core.account_id, id)
        assert (await finished(lab, id))["description"] == "The device lost the manifest 3 times"
        assert update.manifests == 3

    play(story)


@pytest.mark.parametrize("at", [*sorted(set(S) - {S.UNINITIALISED, S.DOWNLOADED}), None])
@pytest.mark.parametrize("kill", [False, True])
def test_a_restart_of_the_service_in_the_middle_changes_nothing(play: Stage, at: FotaState | None, kill: bool) -> None:
    async def story(lab: CoreLab) -> None:
        update = await updatable(lab)
        id = publish(lab)
        restarted = asyncio.Event()

        async def restart() -> None:
            await lab.restart(away=2, kill=kill)
            restarted.set()

        tell = update.tell

        async def telling(state: FotaState) -> None:
            if state is at:
                restarting.append(asyncio.get_running_loop().create_task(restart()))
            await tell(state)

        async def block(number: int) -> None:
            if at is None and number == 20:
                restarting.append(asyncio.get_running_loop().create_task(restart()))

        restarting: list[asyncio.Task[None]] = []
        update.tell, update.on_block = telling, block  # type: ignore[method-assign]
        lab.core.campaigns.start(lab.core.account_id, id)
        await asyncio.sleep(30)
        await asyncio.gather(*restarting)
        device = await finished(lab, id)
        assert device["summary_status"] == "success", device
        assert len(restarting) == (at not in (S.IDLE, S.PROCESSING_MANIFEST))

    play(story)


def test_a_device_is_not_given_up_for_the_time_in_which_there_was_no_service(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        update = await updatable(lab)
        update.boot_s = 2500  # it comes back when the service is there again
        tell, away = update.tell, []

        async def telling(state: FotaState) -> None:
            await tell(state)
            if state is S.REBOOTING:
                away.append(asyncio.get_running_loop().create_task(lab.restart(away=2000)))

        update.tell = telling  # type: ignore[method-assign]
        id = publish(lab)
        lab.core.campaigns.start(lab.core.account_id, id)
        await asyncio.sleep(30)
        await asyncio.gather(*away)
        device = await finished(lab, id)
        assert (device["summary_status"], device["description"]) == ("success", "The device runs 1.1.0")

    play(story)


def test_progress_counts_the_blocks_that_went_out_and_predicts_the_rest(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        update = await updatable(lab)
        id = publish(lab)
        seen: list[dict[str, object]] = []

        async def look(block: int) -> None:
            await asyncio.sleep(1)
            seen.extend(lab.core.campaigns.progress(id))

        update.on_block = look
        lab.core.campaigns.start(lab.core.account_id, id)
        await finished(lab, id)
        blocks = -(-len(IMAGE) // 512)
        assert [row["block"] for row in seen] == list(range(blocks))
        assert [row["done_B"] for row in seen] == [min(512 * (n + 1), len(IMAGE)) for n in range(blocks)]
        assert all(row["phase"] == "downloading" and row["total_B"] == len(IMAGE) for row in seen)
        assert 0 < seen[0]["left_s"] < 0.001  # a round trip a block, and this network has next to none
        assert (seen[0]["left_from"], seen[19]["left_from"]) == ("predicted", "measured")
        assert seen[19]["left_s"] == pytest.approx(blocks - 20, rel=0.1)
        (row,) = lab.core.campaigns.progress(id)
        assert (row["phase"], row["done_B"]) == ("success", len(IMAGE))

    play(story)


def test_many_devices_end_each_in_its_own_way(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        _, bad, other = [await updatable(lab, name) for name in ("desk1", "desk2", "chair")]
        bad.fail_at = S.PROCESSING_MANIFEST
        id = publish(lab, device_filter="endpoint_name__in=desk1,desk2")
        lab.core.campaigns.start(lab.core.account_id, id)
        await finished(lab, id)
        assert counts(lab, id) == {"success": 1, "fail": 1} and other.manifests == 0
        assert {row["endpoint_name"]: row["phase"] for row in lab.core.campaigns.progress(id)} == {
            "desk1": "success",
            "desk2": "fail",
        }
        reason = lab.core.campaigns.find(lab.core.account_id, id)["autostop_reason"]
        assert reason == "all devices are done: 1 fail, 1 success"

    play(story)


def test_a_second_campaign_waits_for_the_devices_of_the_first(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        await updatable(lab)
        first, second = publish(lab, "1.1.0"), publish(lab, "1.2.0")
        for id in (first, second):
            lab.core.campaigns.start(lab.core.account_id, id)
        assert (await finished(lab, first))["summary_status"] == "success"
        assert (await finished(lab, second))["description"] == "The device runs 1.2.0"

    play(story)


def test_a_stopped_campaign_sends_no_more_manifests(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        update = await updatable(lab, registered=False)
        id = publish(lab)
        lab.core.campaigns.start(lab.core.account_id, id)
        await asyncio.sleep(10)
        assert lab.core.campaigns.stop(lab.core.account_id, id)["phase"] == "stopping"
        await asyncio.sleep(0.1)
        row = lab.core.campaigns.find(lab.core.account_id, id)
        assert (row["phase"], row["state"]) == ("stopped", "userstopped")
        (device,) = lab.core.campaigns.metadata(lab.core.account_id, id)
        assert (device["summary_status"], device["deployment_state"]) == ("skipped", "manifestremoved")
        await update.device.register()
        await asyncio.sleep(10)
        assert update.manifests == 0

    play(story)


def test_a_campaign_can_start_later(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        from pdmlab.service.ids import timestamp

        await updatable(lab)
        id = publish(lab, when=timestamp(lab.now() + 600).replace("Z", "+00:00Z"))  # as one SDK writes it
        lab.core.campaigns.start(lab.core.account_id, id)
        await asyncio.sleep(300)
        await lab.restart()
        await asyncio.sleep(200)
        assert lab.core.campaigns.find(lab.core.account_id, id)["phase"] == "starting"
        await asyncio.sleep(90)
        assert (await finished(lab, id))["summary_status"] == "success"

    play(story)


def test_a_deleted_device_does_not_hold_a_campaign_up(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        update = await updatable(lab, registered=False)
        id = publish(lab)
        lab.core.campaigns.start(lab.core.account_id, id)
        await asyncio.sleep(10)
        lab.core.directory.remove(lab.core.account_id, update.device.id)
        device = await finished(lab, id)
        assert (device["event_type"], device["deployment_state"]) == ("UPD4_FAIL_104", "deregistered")

    play(story)


def test_what_a_device_said_of_an_earlier_update_is_not_taken_for_this_one(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        update = await updatable(lab)
        update.device.values[RESULT] = b"23"
        await update.device.register()
        id = publish(lab)
        lab.core.campaigns.start(lab.core.account_id, id)
        assert (await finished(lab, id))["summary_status"] == "success"

    play(story)


def test_campaigns_keep_to_their_phases(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        campaigns, account = lab.core.campaigns, lab.core.account_id
        id = publish(lab, device_filter="endpoint_name=nobody")
        for call in (campaigns.stop,):
            with pytest.raises(Refused) as refused:
                call(account, id)
            assert refused.value.status == 409
        campaigns.change(account, id, name="renamed", device_filter="endpoint_name=desk1")
        campaigns.start(account, id)
        for call in (campaigns.start, campaigns.archive, campaigns.delete):
            with pytest.raises(Refused) as refused:
                call(account, id)
            assert refused.value.status == 409
        row = campaigns.change(account, id, description="new", device_filter="endpoint_name=desk1")
        assert row["description"] == "new"
        with pytest.raises(Refused) as refused:
            campaigns.change(account, id, device_filter="endpoint_name=other")
        assert refused.value.status == 403
        await finished_empty(lab, id)
        campaigns.delete(account, id)
        with pytest.raises(Refused, match="there is no campaign"):
            campaigns.find(account, id)

    async def finished_empty(lab: CoreLab, id: str) -> None:
        await asyncio.sleep(5)
        assert lab.core.campaigns.find(lab.core.account_id, id)["phase"] == "stopped"

    play(story)


def test_campaigns_that_cannot_be_are_refused(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        campaigns, account = lab.core.campaigns, lab.core.account_id
        with pytest.raises(ConfigError, match="no field 'colour'"):
            campaigns.create(account, device_filter="colour=red")
        with pytest.raises(Refused, match="when is no time"):
            campaigns.create(account, device_filter="", when="soon")
        with pytest.raises(Refused, match="there is no firmware manifest"):
            campaigns.create(account, device_filter="", root_manifest_id="0" * 32)
        row = campaigns.create(account, device_filter="id__eq=1&state=registered")
        assert row["device_filter"] == "id__eq=1&state=registered"
        with pytest.raises(Refused, match="needs a root_manifest_id"):
            campaigns.start(account, row["id"])
        with pytest.raises(Refused, match="there is no campaign"):
            campaigns.start("0" * 32, row["id"])

    play(story)


def test_firmware_is_served_block_by_block_and_nothing_else(play: Stage) -> None:
    from tests.service.corelab import request

    async def story(lab: CoreLab) -> None:
        device = await lab.registered()
        id = lab.core.firmware.add_image(lab.core.account_id, "image", IMAGE)["id"]

        async def get(uri: str | None, block: tuple[int, bool, int] | None, path: str = "fw") -> object:
            ask = request(codes.GET, path)
            ask.opt.proxy_uri, ask.opt.block2 = uri, block
            return await device.endpoint.request(ask, device.service)

        for path in ("fw", "download"):
            last = await get(f"/fw/{id}", (len(IMAGE) // 512, False, 5), path)
            assert last.payload == IMAGE[len(IMAGE) // 512 * 512 :] and not last.opt.block2.more
        whole = await get(f"coap://anything:1/fw/{id}", None)
        assert whole.payload == IMAGE
        assert (await get(f"/fw/{id}", (4, False, 0))).payload == IMAGE[64:80]
        assert (await get(f"/fw/{id}", (1000, False, 5))).code == codes.BAD_REQUEST
        assert (await get("/fw/" + "0" * 32, (0, False, 5))).code == codes.NOT_FOUND
        assert (await get("http://elsewhere/firmware.bin", None)).code == codes.NOT_FOUND
        assert (await get(None, None)).code == codes.BAD_REQUEST

    play(story)
