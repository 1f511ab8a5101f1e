"""The cloud client against a running service, over HTTP on loopback, with devices over CoAP."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import httpx
import pandas as pd
import pytest
from aiocoap import Message
from aiocoap.numbers import codes

import pdmlab
from pdmlab.aio import LoopThread
from pdmlab.cloud import Cloud, channel
from pdmlab.cloud.both import now
from pdmlab.errors import ConfigError, Lwm2mError, NetworkError, ServiceError, TimedOut, Unreachable
from pdmlab.service import serve
from pdmlab.service.service import Service
from tests.service.restlab import LINKS, Device


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with serve(name="cloud-tests") as running:
        yield running


@pytest.fixture
def cloud(service: Service) -> Iterator[Cloud]:
    with Cloud(service.url, service.api_key) as cloud:
        yield cloud


@pytest.fixture(scope="module")
def loop() -> Iterator[LoopThread]:
    with LoopThread("devices") as loop:
        yield loop


@pytest.fixture
def desk(service: Service, loop: LoopThread, request: pytest.FixtureRequest) -> Iterator[Device]:
    device = Device(
        lambda coroutine: loop.run(coroutine, timeout=30), service.core.lwm2m.address, request.node.name[:60]
    )
    device.register()
    yield device
    device.close()


# -- reaching the service ----------------------------------------------------------------------------------------------


def test_the_address_and_key_come_from_settings_and_the_mbed_variable(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PDMLAB_HOST", service.url + "/")
    with pytest.raises(ConfigError, match="no API key"):
        Cloud()
    monkeypatch.setenv("CLOUD_SDK_API_KEY", service.api_key)
    with Cloud() as cloud:
        assert cloud.account()["id"] == service.account_id
    monkeypatch.setenv("PDMLAB_API_KEY", "ak_other")
    with Cloud() as cloud, pytest.raises(ServiceError, match="401") as refused:
        cloud.account()
    assert refused.value.status == 401 and refused.value.hint


def test_told_nothing_it_takes_the_service_that_runs_here(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUD_SDK_API_KEY", "ak_of_another_service")
    with Cloud() as cloud:
        assert cloud.host == service.url and cloud.account()["id"] == service.account_id
    monkeypatch.setattr("pdmlab.running._here", {})
    with pytest.raises(ConfigError, match="none runs here"):
        Cloud()


@pytest.mark.parametrize("host", ["127.0.0.1:80", "coap://127.0.0.1", "http://", "http://127.0.0.1:x"])
def test_a_host_that_is_none_is_said_to_be_none(host: str) -> None:
    with pytest.raises(ConfigError) as error:
        Cloud(host, "ak_x")
    assert error.value.hint


@pytest.mark.parametrize("host", ["http://user:secret@127.0.0.1:1", "user:secret@127.0.0.1", "HTTP://secret@h/"])
def test_a_password_in_the_address_is_refused_and_not_shown(host: str) -> None:
    with pytest.raises(ConfigError, match="password") as error:
        Cloud(host, "ak_x")
    assert "secret" not in str(error.value) and "api_key" in str(error.value)


def test_a_closed_cloud_says_that_it_is(service: Service) -> None:
    with Cloud(service.url, service.api_key) as cloud:
        pass
    cloud.close()
    with pytest.raises(ConfigError, match="closed") as error:
        cloud.devices().frame()
    assert error.value.hint


def test_the_key_is_shown_nowhere(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "ak_secret" + "x" * 40
    shown = []
    for bad in (key, key + "\nInjected: yes", key + "é"):
        with pytest.raises((ServiceError, ConfigError)) as error, Cloud(service.url, bad) as cloud:
            shown += [repr(cloud), str(vars(cloud)), repr(cloud.device)]
            cloud.account()
        shown += [str(error.value), repr(error.value), str(error.value.__cause__)]
    with Cloud("http://127.0.0.1:9", key) as cloud, pytest.raises(Unreachable) as unreachable:
        cloud.account()
    shown += [str(unreachable.value), repr(unreachable.value.__cause__)]
    assert "ak_secret" not in " ".join(shown)


def test_a_service_that_is_not_there_is_an_error_with_a_hint() -> None:
    with Cloud("http://127.0.0.1:9", "ak_x") as cloud, pytest.raises(Unreachable, match=r"127\.0\.0\.1:9") as error:
        cloud.devices().frame()
    assert "pdmlab service" in str(error.value)


def test_another_program_behind_the_address_is_recognised() -> None:
    def other(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text="<html>")

    cloud = Cloud("http://elsewhere", "ak_x", transport=httpx.MockTransport(other))
    with cloud, pytest.raises(ServiceError, match="no JSON"):
        cloud.account()


def test_the_package_offers_it(service: Service) -> None:
    assert pdmlab.Cloud is Cloud
    with Cloud(service.url, service.api_key) as cloud:
        assert repr(cloud) == f"<Cloud {service.url}>"
        assert service.account_id in cloud._repr_html_()


# -- devices -----------------------------------------------------------------------------------------------------------


def test_devices_are_a_frame_of_all_pages(cloud: Cloud, desk: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pdmlab.cloud.rest.PAGE", 2)
    for name in ("a", "b", "c"):
        cloud.create_api_key(f"page {name}")
    keys = cloud.api_keys().frame()
    assert isinstance(keys, pd.DataFrame) and {"page a", "page b", "page c"} <= set(keys["name"])
    assert list(cloud.devices(id=desk.id).frame()["state"]) == ["registered"]
    assert cloud.devices(name__eq="nobody").frame().empty


def test_a_frame_of_nothing_has_its_columns(cloud: Cloud, desk: Device) -> None:
    assert list(cloud.devices(id="0" * 32).frame()[["id", "name", "state"]]) == ["id", "name", "state"]
    assert cloud.events(device_id="0" * 32).frame()["event_type"].empty
    assert cloud.device(desk.id).queue()["why"].empty
    assert not set(cloud.devices(id=desk.id).frame().columns) - set(cloud.device(desk.id).info)


def test_a_device_is_found_by_id_or_name(cloud: Cloud, desk: Device) -> None:
    assert cloud.device(desk.id).id == cloud.device(desk.name).id == desk.id
    with pytest.raises(ConfigError, match="no device"):
        cloud.device("nobody")
    assert cloud.device(desk.id).state == "registered"
    assert desk.id in cloud.device(desk.id)._repr_html_()


def test_resources_are_read_written_and_executed(cloud: Cloud, desk: Device) -> None:
    device = cloud.device(desk.id)
    resources = device.resources()
    assert list(resources.loc[resources["path"] == "/3/0/0", "name"]) == ["Device / Manufacturer"]
    assert device.read("/3/0/0") == "pdmlab"
    device.write("/5000/0/2", 86405)
    assert desk.values["/5000/0/2"] == b"86405"
    assert device.execute("/5000/0/3") == ""
    device.set_attributes("/3/0/9", pmin=1, pmax=10)
    assert desk.asked[-1] == "PUT /3/0/9?pmin=1?pmax=10"


@pytest.mark.parametrize(("path", "status", "hint"), [("/9999/0/0", 400, "resources"), ("/3/0/0", 405, "methods")])
def test_what_cannot_be_written_says_why(cloud: Cloud, desk: Device, path: str, status: int, hint: str) -> None:
    with pytest.raises(ServiceError, match=f"PUT {path} on device {desk.id}") as error:
        cloud.device(desk.id).write(path, "x")
    assert error.value.status == status and hint in str(error.value)


def test_what_is_no_path_is_said_before_anybody_is_asked(cloud: Cloud, desk: Device) -> None:
    asked = len(desk.asked)
    for ask in (cloud.device(desk.id).read, cloud.device(desk.id).execute):
        with pytest.raises(Lwm2mError, match="'nope' is no LwM2M path") as error:
            ask("nope")
        assert "/3/0/13" in str(error.value)
    assert len(desk.asked) == asked and cloud.device(desk.id).read("3/0/0") == "pdmlab"


def test_what_the_service_says_of_its_token_is_passed_on(cloud: Cloud, desk: Device) -> None:
    with pytest.raises(ServiceError, match="MALFORMED_JSON_CONTENT") as error:
        cloud.device(desk.id).set_attributes("/3/0/9", **{"x" * 600: 1})
    assert "the uri is too long" in str(error.value)


def test_a_silent_device_is_a_time_out_with_a_hint(cloud: Cloud, desk: Device) -> None:
    desk.silent = True
    with pytest.raises(TimedOut, match=r"GET /3/0/0 on device .* in 0\.3 s") as error:
        cloud.device(desk.id).read("/3/0/0", timeout=0.3)
    assert "queue" in str(error.value)


def test_what_waits_for_a_device_can_be_looked_at(cloud: Cloud, desk: Device) -> None:
    desk.deregister()
    device = cloud.device(desk.id)
    assert device.queue().empty
    with pytest.raises(TimedOut):
        device.read("/3/0/0", timeout=0.2)
    assert "registered" in device.queue()["why"].iloc[0]
    with pytest.raises(TimedOut, match="deregistered"):
        device.wait_for("registered", timeout=0)
    assert "update.device.device-deregistered" in set(device.events().frame()["event_type"])


def test_a_device_is_renamed_and_deleted(cloud: Cloud, desk: Device) -> None:
    device = cloud.device(desk.id)
    device.rename("kitchen")
    assert device.info["name"] == "kitchen"
    device.delete()
    with pytest.raises(ServiceError, match="404"):
        _ = device.info


# -- observing ---------------------------------------------------------------------------------------------------------


def test_an_observation_brings_values_and_ends_with_the_statement(cloud: Cloud, desk: Device) -> None:
    device = cloud.device(desk.id)
    with device.observe("/3/0/9") as values:
        assert values.seen[0].value == "97"
        for value in (b"96", b"95"):
            desk.tell("/3/0/9", value)
            assert values.next(10).value == value.decode()
        assert list(values.frame()["value"]) == ["97", "96", "95"]
        assert list(values.take(3, timeout=0.05)) == []
    assert now(cloud._rest.get_list(f"/lab/observations/{desk.id}")) == []
    with pytest.raises(ConfigError):
        values.next(1)


def test_an_observation_ends_even_if_its_statement_breaks(cloud: Cloud, desk: Device) -> None:
    with pytest.raises(KeyboardInterrupt), cloud.device(desk.id).observe("/3/0/9"):
        raise KeyboardInterrupt
    with pytest.raises(ServiceError, match="404"):
        now(cloud._rest.call("GET", f"/v2/subscriptions/{desk.id}/3/0/9"))


def test_what_cannot_be_observed_says_so_and_leaves_nothing_behind(cloud: Cloud, desk: Device) -> None:
    with pytest.raises(ServiceError, match="RESOURCE_NOT_FOUND"), cloud.device(desk.id).observe("/5000/0/4"):
        pass
    assert not channel.Channel.of(cloud._rest)._waiting


@pytest.mark.parametrize(("observing", "decides"), [(True, "observable(True)"), (False, "methods(...)")])
def test_what_decides_whether_a_device_allows_it_depends_on_what_was_asked(observing: bool, decides: str) -> None:
    event = {"status": 405, "error": "4.05 Method Not Allowed"}
    said = str(channel.refused(event, "it", observing=observing))
    assert decides in said and said.count("decides") == 1


def test_two_who_observe_the_same_do_not_end_each_other(cloud: Cloud, desk: Device) -> None:
    device = cloud.device(desk.id)
    with device.observe("/3/0/9") as first:
        with device.observe("/3/0/9"):
            pass
        desk.tell("/3/0/9", b"12")
        assert first.next(10).value == "12"


def test_threads_share_the_one_poll_of_a_key(cloud: Cloud, service: Service, desk: Device) -> None:
    results: list[object] = []

    def read() -> None:
        with Cloud(service.url, service.api_key) as another:
            results.append(another.device(desk.id).read("/3/0/0"))

    threads = [threading.Thread(target=read) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == ["pdmlab"] * 5


@pytest.fixture
def contested(
    cloud: Cloud, service: Service, desk: Device, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cloud]:
    """A key that another program polls with."""
    if getattr(request, "param", "") == "away":
        desk.deregister()  # now: later it would be news, and end the poll
    monkeypatch.setattr(channel, "RETRY_S", (0.0, 0.0))
    key = cloud.create_api_key("shared")
    with httpx.Client(base_url=service.url, headers={"Authorization": f"Bearer {key}"}, timeout=30) as other:
        polling = threading.Thread(target=other.get, args=["/v2/notification/pull"])
        polling.start()
        while other.get("/v2/notification/channel").status_code != 200:
            pass
        with Cloud(service.url, key) as mine:
            yield mine
        other.delete("/v2/notification/pull")
        polling.join()


@pytest.mark.parametrize("contested", ["away"], indirect=True)
def test_a_poll_that_another_program_holds_is_named(contested: Cloud, desk: Device) -> None:
    with pytest.raises(ServiceError, match="409") as error:
        contested.device(desk.id).read("/3/0/0")
    assert "key of its own" in str(error.value)


def test_an_answer_that_another_program_took_is_explained(contested: Cloud, desk: Device) -> None:
    channel.Channel.of(contested._rest).contested = True
    with pytest.raises((TimedOut, ServiceError)) as error:
        contested.device(desk.id).read("/3/0/0", timeout=0.3)
    assert "key of its own" in str(error.value)


def test_a_revoked_key_fails_at_once_and_not_after_a_time_out(cloud: Cloud, service: Service, desk: Device) -> None:
    key = cloud.create_api_key("doomed")
    with Cloud(service.url, key) as mine:
        device = mine.device(desk.id)
        (id,) = cloud.api_keys(name="doomed").frame()["id"]
        cloud.delete_api_key(id)
        with pytest.raises((ServiceError, NetworkError), match="401"):
            device.read("/3/0/0")


def test_a_service_that_stops_answers_the_polls_that_it_holds() -> None:
    with serve(name="stopping") as stopping:
        headers = {"Authorization": f"Bearer {stopping.api_key}"}
        with httpx.Client(base_url=stopping.url, headers=headers, timeout=30) as client:
            answers: list[int] = []
            poll = threading.Thread(target=lambda: answers.append(client.get("/v2/notification/pull").status_code))
            poll.start()
            while client.get("/v2/notification/channel").status_code != 200:
                pass
            stopping.close()
            poll.join()
    # A refused or reset connection would end the notification thread of the stock SDK for good.
    assert answers == [204]


# -- updates -----------------------------------------------------------------------------------------------------------


def test_an_update_is_uploaded_started_and_told_in_words(cloud: Cloud, service: Service, loop: LoopThread) -> None:
    old = Device(lambda coroutine: loop.run(coroutine, timeout=30), service.core.lwm2m.address, "no-updates")
    old.register(LINKS + ',</10252/0/1>,</14/0/2>;v="1.0.0"')
    image = cloud.firmware_image("fw", b"firmware" * 100)
    assert httpx.get(image.url).content == b"firmware" * 100
    signed = service.developer.sign(b"firmware" * 100, version="2.0.0", uri=image.url)
    manifest = cloud.manifest("fw", signed)
    campaign = cloud.campaign(manifest, devices=cloud.device(old.id), name="try")
    seen: list[dict[str, int]] = []
    outcome = campaign.wait(timeout=30, progress=lambda _, metrics: seen.append(metrics))
    old.close()
    # The device answered 4.04 to the manifest.
    assert list(outcome["device_id"]) == [old.id] and outcome["state"].iloc[0] != "deployed"
    assert len(outcome["outcome"].iloc[0].split()) > 3
    assert seen[0]["total"] in (0, 1) and seen[-1] == {
        "total": 1,
        "success": 0,
        "failed": 1,
        "pending": 0,
        "skipped": 0,
    }
    assert campaign.id in set(cloud.campaigns().frame()["id"]) and image.id in set(
        cloud.firmware_images().frame()["id"]
    )
    assert list(campaign.progress()["device_id"]) == [old.id]
    assert old.id in campaign._repr_html_()
    for each in (campaign, manifest, image):
        each.delete()
    assert campaign.id not in set(cloud.campaigns().frame()["id"])


def test_a_campaign_for_nobody_in_particular_is_refused_before_it_is_made(cloud: Cloud) -> None:
    with pytest.raises(ConfigError, match="which devices"):
        cloud.campaign("0" * 32)


def test_a_large_image_goes_in_chunks(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pdmlab.cloud.firmware.ONE_REQUEST", 100)
    monkeypatch.setattr("pdmlab.cloud.firmware.CHUNK", 64)
    for size in (128, 130):
        image = cloud.firmware_image("chunked", bytes(range(size)))
        assert image.size == size and httpx.get(image.url).content == bytes(range(size))


def test_credentials_for_a_build_come_from_the_service(cloud: Cloud, service: Service) -> None:
    credentials = cloud.developer_credentials("kettle")
    assert credentials.bootstrap_server_uri == service.bootstrap_uri
    with pytest.raises(ServiceError, match="409"):
        cloud.developer_credentials("kettle")


def test_the_message_log_is_a_frame(cloud: Cloud, desk: Device) -> None:
    cloud.device(desk.id).read("/3/0/0")
    assert "/3/0/0" in set(cloud.log()["path"])


def test_waiting_for_a_campaign_outlives_a_restart_of_the_service(loop: LoopThread) -> None:
    first = serve(name="restarted")
    silent = Device(lambda coroutine: loop.run(coroutine, timeout=30), first.core.lwm2m.address, "silent")
    silent.register(LINKS + ',</10252/0/1>,</14/0/2>;v="1.0.0"')
    silent.silent = True
    again: list[Service] = []
    with Cloud(first.url, first.api_key) as cloud:
        signed = first.developer.sign(b"new", version="2.0.0", uri=cloud.firmware_image("fw", b"new").url)
        campaign = cloud.campaign(cloud.manifest("fw", signed), devices=silent.id)

        def restart() -> None:
            first.close()
            again.append(serve(name="restarted"))
            campaign.stop()

        thread = threading.Thread(target=restart)
        thread.start()
        outcome = campaign.wait(timeout=60)
        thread.join()
    assert list(outcome["device_id"]) == [silent.id]
    silent.close()
    again[0].close()


def test_a_bootstrap_is_told_step_by_step(cloud: Cloud, service: Service, desk: Device) -> None:
    with pytest.raises(ServiceError, match="404"):
        cloud.device(desk.id).bootstrap_steps()
    message = Message(code=codes.POST)
    message.opt.uri_path, message.opt.uri_query = ("bs",), (f"ep={desk.name}",)
    address = service.core._addresses["bootstrap"]["coap"]
    assert desk.run(desk.endpoint.request(message, address)).code == codes.CHANGED
    (found,) = [
        row["id"] for row in cloud.devices(endpoint_name=desk.name).frame().to_dict("records") if row["id"] != desk.id
    ]
    device = cloud.device(found)
    for _ in range(1000):
        steps = device.bootstrap_steps()
        if "4.04" in steps.iloc[-1]["answer"] and len(steps) == 2:
            break
    # The device of this test has nothing to delete, which is well, and takes no configuration, which is not.
    assert list(steps["step"]) == ["DELETE /0", "PUT /0"]
    assert list(steps["answer"]) == ["4.04 Not Found", "the device answered 4.04 Not Found"]
