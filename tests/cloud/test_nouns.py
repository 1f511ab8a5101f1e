"""Every noun of the REST client against a running service: blocking, blocking inside a running loop, and awaited."""

from __future__ import annotations

import asyncio
import datetime
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import httpx
import pandas as pd
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pdmlab.aio import LoopThread
from pdmlab.cloud import AsyncCloud
from pdmlab.errors import ConfigError, ServiceError, TimedOut
from pdmlab.service import serve
from pdmlab.service.enrollment import identity_of
from pdmlab.service.service import Service
from tests.cloud.ways import WAYS, Story, every, it, opened, tell
from tests.service.restlab import LINKS, Device

Teller = Callable[..., None]
_numbers = itertools.count()


def new(name: str) -> str:
    """Return a name that nothing has yet."""
    return f"{name}-{next(_numbers)}"


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with serve(name="nouns") as running:
        yield running


@pytest.fixture(scope="module")
def loop() -> Iterator[LoopThread]:
    with LoopThread("devices") as loop:
        yield loop


@pytest.fixture
def desk(service: Service, loop: LoopThread) -> Iterator[Device]:
    device = Device(lambda coroutine: loop.run(coroutine, timeout=30), service.core.lwm2m.address, new("desk"))
    device.register(LINKS + ',</10252/0/1>,</14/0/2>;v="1.0.0",</35011/0/27002>')
    yield device
    device.close()


@pytest.fixture(params=WAYS)
def told(request: pytest.FixtureRequest, service: Service) -> Teller:
    """Tell a story in a way: told(story)."""

    def tell_it(story: Story, *, key: str = service.api_key, **options: Any) -> None:
        tell(request.param, story, service.url, key, **options)

    return tell_it


# -- the directory -----------------------------------------------------------------------------------------------------


def test_devices(told: Teller, desk: Device) -> None:
    async def story(cloud: Any) -> None:
        device = await it(cloud.device(desk.name))
        assert device.id == desk.id and device == await it(cloud.devices.get(desk.id))
        assert device.endpoint_name == desk.name and isinstance(device.created_at, datetime.datetime)
        assert await it(device.state) == "registered" and (await it(device.info))["id"] == desk.id
        await it(device.rename("kitchen"))
        await it(device.update(description="beside the window", custom_attributes={"room": "12"}))
        assert (device.name, device["description"]) == ("kitchen", "beside the window")
        assert desk.id in repr(device) and "kitchen" in device._repr_html_()
        found = await every(cloud.devices(custom_attributes__room="12", id__in=[device, "0" * 32]))
        assert found == [device]
        made = await it(cloud.devices.create(name=new("made")))
        assert (await it(made.info))["mechanism"] == "connector"
        await it(made.delete())
        with pytest.raises(ServiceError) as gone:
            await it(made.info)
        assert gone.value.status == 404 and gone.value.type == "not_found" and len(gone.value.request_id) == 32

    told(story)


def test_lists_are_asked_for_when_they_are_walked_through(told: Teller, desk: Device) -> None:
    async def story(cloud: Any) -> None:
        listing = cloud.devices(created_at__lte=datetime.datetime.now(datetime.UTC), order="DESC")
        frame = await it(listing.frame())
        assert isinstance(frame, pd.DataFrame) and frame["id"].iloc[0] == desk.id
        assert isinstance(frame["created_at"].dtype, pd.DatetimeTZDtype)
        assert len(frame) == await it(listing.count()) == len(await every(listing))
        assert (await it(listing.first())).id == desk.id
        assert await every(cloud.devices(limit=1, order="DESC")) == [await it(listing.first())]
        nothing = cloud.devices(name="nobody", created_at__gte=datetime.datetime(2020, 1, 1))
        assert await it(nothing.first()) is None and (await it(nothing.frame())).empty
        assert "name__eq=nobody" in repr(nothing) and "created_at__gte" in nothing._repr_html_()
        with pytest.raises(ServiceError, match="400"):
            await it(cloud.devices(no_such_field="x").frame())

    told(story)


def test_device_events(told: Teller, desk: Device) -> None:
    async def story(cloud: Any) -> None:
        events = await it(cloud.events(device_id=desk.id).frame())
        assert "update.device.device-registered" in set(events["event_type"])
        (first, *_) = await every(cloud.events(device_id=desk.id, limit=1))
        assert (await it(cloud.events.get(first.id))).event_type == first.event_type
        device = await it(cloud.device(desk.id))
        assert list((await it(device.events().frame()))["id"]) == list(events["id"])

    told(story)


def test_queries(told: Teller, desk: Device) -> None:
    async def story(cloud: Any) -> None:
        query = await it(cloud.queries.create(new("mine"), id=desk.id, state="registered"))
        assert query.query == f"id__eq={desk.id}&state__eq=registered"
        assert [each.id for each in await every(query.devices())] == [desk.id]
        assert query in await every(cloud.queries())
        await it(query.delete())
        assert query.id not in set((await it(cloud.queries().frame()))["id"])

    told(story)


def test_groups(told: Teller, desk: Device) -> None:
    async def story(cloud: Any) -> None:
        group = await it(cloud.groups.create(new("room"), description="all of it"))
        device = await it(cloud.device(desk.id))
        await it(group.add(device))
        assert await every(group.devices()) == [device] and (await it(group.info))["devices_count"] == 1
        assert group.devices_count == 1
        await it(group.remove(device.id))
        assert (await it(group.devices(state="registered").frame())).empty
        await it(group.update(name=new("hall")))
        assert group in await every(cloud.groups())
        await it(group.delete())

    told(story)


# -- talking to devices ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channel", ["poll", "websocket"])
def test_resources_are_read_written_executed_and_observed(
    told: Teller, service: Service, desk: Device, channel: str
) -> None:
    async def story(cloud: Any) -> None:
        device = await it(cloud.device(desk.id))
        assert "/3/0/0" in set((await it(device.resources()))["path"])
        assert await it(device.read("/3/0/0")) == "pdmlab"
        await it(device.write("/5000/0/2", 86405))
        assert desk.values["/5000/0/2"] == b"86405"
        assert await it(device.execute("/5000/0/3")) == ""
        await it(device.set_attributes("/3/0/9", pmin=1))
        async with opened(device.observe("/3/0/9")) as values:
            assert "observed" in repr(values) and [note.value for note in values.seen] == ["97"]
            desk.tell("/3/0/9", b"96")
            assert (await it(values.next(10))).value == "96"
            desk.tell("/3/0/9", b"95")
            assert [note.value for note in await every(values.take(1, timeout=10))] == ["95"]
            assert await every(values.take(3, timeout=0.05)) == []
        assert list(values.frame()["value"]) == ["97", "96", "95"]
        with pytest.raises(ConfigError):
            await it(values.next(1))
        assert await it(cloud.subscriptions.paths(device)) == []

    told(story, key=_key(service), channel=channel)


def test_a_device_that_does_not_answer_is_a_time_out(told: Teller, desk: Device) -> None:
    desk.silent = True

    async def story(cloud: Any) -> None:
        device = await it(cloud.device(desk.id))
        with pytest.raises(TimedOut, match=r"GET /3/0/0 on device .* in 0\.1 s"):
            await it(device.read("/3/0/0", timeout=0.1))
        with pytest.raises(TimedOut, match="still registered"):
            await it(device.wait_for("deregistered", timeout=0))

    told(story)


@pytest.mark.parametrize("channel", ["poll", "websocket"])
def test_many_are_awaited_at_once_and_one_that_is_given_up_leaves_nothing(
    service: Service, desk: Device, channel: Literal["poll", "websocket"]
) -> None:
    async def story() -> None:
        async with AsyncCloud(service.url, _key(service), channel=channel) as cloud:
            device = await cloud.device(desk.id)
            assert await asyncio.gather(*(device.read("/3/0/0") for _ in range(15))) == ["pdmlab"] * 15
            desk.silent = True
            given_up = asyncio.create_task(device.read("/3/0/0"))
            while len(await device.queue()) == 0:
                pass
            given_up.cancel()
            with pytest.raises(asyncio.CancelledError):
                await given_up
            assert not device._channel._waiting

    asyncio.run(story())


@pytest.mark.parametrize("channel", ["poll", "websocket"])
def test_notifications_tell_what_devices_do(told: Teller, service: Service, desk: Device, channel: str) -> None:
    key = _key(service)

    async def story(cloud: Any) -> None:
        async with opened(cloud.notifications()) as news:
            await it(cloud.subscriptions.add(desk.id, "/3/0/9"))
            assert await it(cloud.subscriptions.paths(desk.id)) == ["/3/0/9"]
            kinds = {}
            while "answer" not in kinds:
                each = await it(news.next(10))
                kinds[each.kind] = each
            assert kinds["answer"].value == "97"
            desk.tell("/3/0/9", b"12")
            while "value" not in kinds:
                each = await it(news.next(10))
                kinds[each.kind] = each
            assert (kinds["value"].device_id, kinds["value"].path, kinds["value"].value) == (desk.id, "/3/0/9", "12")
            desk.deregister()
            while "deregistered" not in kinds:
                each = await it(news.next(10))
                kinds[each.kind] = each
            assert kinds["deregistered"].device_id == desk.id
            assert channel in repr(news) and "open" in repr(news)
        assert set(news.frame()["kind"]) >= {"answer", "value", "deregistered"}
        await it(cloud.subscriptions.clear())

    told(story, key=key, channel=channel)


def test_presubscriptions(told: Teller, service: Service) -> None:
    async def story(cloud: Any) -> None:
        await it(
            cloud.presubscriptions.set(
                {"endpoint_name": "desk*", "resource_path": "/3/*"}, {"endpoint_type": "lamp", "resource_path": ["/1"]}
            )
        )
        frame = await it(cloud.presubscriptions.frame())
        assert list(frame["endpoint_name"].fillna("")) == ["desk*", ""] and frame["resource_path"].iloc[0] == ["/3/*"]
        await it(cloud.presubscriptions.set())
        assert (await it(cloud.presubscriptions.frame())).empty

    told(story, key=_key(service))


def test_a_webhook_is_set_and_shown_without_its_headers(
    told: Teller, service: Service, desk: Device, hook: str
) -> None:
    async def story(cloud: Any) -> None:
        assert await it(cloud.webhook.get()) is None
        await it((await it(cloud.device(desk.id))).read("/3/0/0"))  # its poll is still held
        async with opened(cloud.notifications()):
            with pytest.raises(ConfigError, match="one channel"):
                await it(cloud.webhook.set(hook))
        await it(cloud.webhook.set(hook, {"X-Secret": "swordfish"}))
        callback = await it(cloud.webhook.get())
        assert callback.url == hook and callback.headers == {"X-Secret": "swordfish"}
        assert "swordfish" not in repr(callback)
        await it(cloud.webhook.delete())

    told(story, key=_key(service))


@pytest.fixture
def hook() -> Iterator[str]:
    from tests.service.examplelab import _listening

    with _listening() as address:
        yield address


def _key(service: Service) -> str:
    """Return a key of its own: a key has one channel in a program."""
    headers = {"Authorization": f"Bearer {service.api_key}"}
    groups = httpx.get(f"{service.url}/v3/policy-groups", headers=headers).json()["data"]
    body = {"name": new("own"), "groups": [each["id"] for each in groups if each["name"] == "Developers"]}
    return str(httpx.post(f"{service.url}/v3/api-keys", headers=headers, json=body).json()["key"])


# -- updates -----------------------------------------------------------------------------------------------------------


def test_images_manifests_and_campaigns(told: Teller, service: Service, desk: Device) -> None:
    async def story(cloud: Any) -> None:
        image = await it(cloud.firmware_images.create("fw", b"firmware" * 100))
        assert image.size == 800 and httpx.get(image.url).content == b"firmware" * 100
        signed = service.developer.sign(b"firmware" * 100, version="2.0.0", uri=image.url)
        manifest = await it(cloud.manifests.create("fw", signed))
        assert manifest.datafile_size == len(signed) and len(manifest.device_class) == 32
        campaign = await it(cloud.campaigns.create(manifest, devices=desk.id, name=new("try"), start=False))
        assert await it(campaign.phase) == "draft" and (await it(campaign.metrics()))["total"] == 0
        await it(campaign.update(description="one first"))
        assert await it(campaign.start()) is campaign
        seen: list[dict[str, int]] = []
        outcome = await it(campaign.wait(timeout=30, progress=lambda _, metrics: seen.append(metrics)))
        assert list(outcome["device_id"]) == [desk.id] and seen[-1]["failed"] == 1  # it has no such object
        assert int((await it(campaign.statistics()))["count"].sum()) == 1
        assert list((await it(campaign.progress()))["device_id"]) == [desk.id]
        assert campaign.name in campaign._repr_html_() and campaign.started_at is not None
        assert campaign in await every(cloud.campaigns(phase="stopped"))
        await it(campaign.archive())
        assert await it(campaign.phase) == "archived"
        for each in (campaign, manifest, image):
            await it(each.delete())
        assert await it(cloud.firmware_images(id=image.id).count()) == 0

    told(story)


def test_a_campaign_that_waits_for_its_time_is_stopped(told: Teller, service: Service, desk: Device) -> None:
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)

    async def story(cloud: Any) -> None:
        image = await it(cloud.firmware_image("fw", b"x"))
        manifest = await it(cloud.manifest("fw", service.developer.sign(b"x", version="2.0.0", uri=image.url)))
        campaign = await it(cloud.campaign(manifest, devices=desk.id, when=later))
        with pytest.raises(TimedOut, match="campaign"):
            await it(campaign.wait(timeout=0))
        await it(campaign.stop())
        await it(campaign.wait(timeout=30))
        assert await it(campaign.phase) == "stopped"

    told(story)


# -- the account and its people ----------------------------------------------------------------------------------------


def test_the_account(told: Teller, service: Service) -> None:
    async def story(cloud: Any) -> None:
        account = await it(cloud.account())
        assert account.id == account["id"] == service.account_id and "limits" in account.fields
        await it(account.update(display_name="the lab"))
        assert account.display_name == "the lab" and "the lab" in account._repr_html_()
        if hasattr(cloud, "_repr_html_"):
            assert service.url in cloud._repr_html_()

    told(story)


def test_api_keys_are_whole_once_and_never_shown(told: Teller, service: Service) -> None:
    async def story(cloud: Any) -> None:
        (developers,) = await every(cloud.policy_groups(name="Developers"))
        made = await it(cloud.api_keys.create(new("script"), groups=[developers]))
        assert made.key.startswith("ak_") and made.groups == [developers.id]
        assert made.key not in repr(made) + made._repr_html_() + str(made.fields) + str(vars(cloud))
        assert "key" not in made.fields
        again = await it(cloud.api_keys.get(made.id))
        assert again == made and again.key != made.key
        await it(made.quit(developers))
        await it(made.join("Developers"))
        assert await every(developers.api_keys()) and made.id in set((await it(cloud.api_keys().frame()))["id"])
        old = made.key
        assert await it(made.reset_secret()) == made.key != old
        await it(made.update(name=made.name, status="INACTIVE"))
        assert made.status == "INACTIVE"
        await it(made.delete())

    told(story)


def test_policy_groups_are_named_by_name_or_id(told: Teller) -> None:
    async def story(cloud: Any) -> None:
        one, other = new("group"), new("group")
        made = [await it(cloud.policy_groups.create(name)) for name in (one, other)]
        key = await it(cloud.api_keys.create(new("reader"), groups=[one, made[1].id]))
        assert sorted(key.groups) == sorted(each.id for each in made)
        await it(key.quit(one))
        assert (await it(cloud.api_keys.get(key.id))).groups == [made[1].id]
        with pytest.raises(ConfigError, match="no policy group 'Nobody'") as error:
            await it(cloud.api_keys.create("reader", groups=["Nobody"]))
        assert one in str(error.value) and "Developers" in str(error.value)
        await it(key.delete())
        for each in made:
            await it(each.delete())

    told(story)


def test_users_and_invitations(told: Teller) -> None:
    async def story(cloud: Any) -> None:
        name = new("user")
        user = await it(cloud.users.create(f"{name}@example.com", full_name="A User", username=name))
        assert (user.email, user.full_name) == (f"{name}@example.com", "A User")
        (developers,) = await every(cloud.policy_groups(name="Developers"))
        await it(user.join(developers))
        assert user in await every(developers.users())
        await it(user.quit(developers))
        assert user in await every(cloud.users(email=user.email))
        await it(user.delete())
        invited = await it(cloud.invitations.create(f"{name}@example.org", groups=[developers], days=3))
        assert invited in await every(cloud.invitations())
        await it(invited.delete())

    told(story)


def test_policy_groups(told: Teller) -> None:
    async def story(cloud: Any) -> None:
        key = await it(cloud.api_keys.create(new("member")))
        group = await it(cloud.policy_groups.create(new("group"), key))
        assert await every(group.api_keys()) == [key]
        await it(group.remove(key))
        assert await every(group.api_keys()) == []
        await it(group.add(key))
        assert (await it(group.info))["apikey_count"] == group.apikey_count == 1
        await it(group.delete())
        await it(key.delete())

    told(story)


# -- security ----------------------------------------------------------------------------------------------------------


def test_developer_certificates_are_what_a_build_compiles_in(told: Teller, service: Service) -> None:
    async def story(cloud: Any) -> None:
        made = await it(cloud.developer_certificates.create(new("kettle"), description="mine"))
        assert made.credentials.bootstrap_server_uri == service.bootstrap_uri
        assert "PRIVATE" not in repr(made) + made._repr_html_()
        again = await it(cloud.developer_certificates.get(made.id))
        assert again.credentials.bootstrap_server_uri == service.bootstrap_uri
        assert (await it(cloud.developer_credentials(new("pot")))).bootstrap_server_uri == service.bootstrap_uri

    told(story)


def test_trusted_certificates(told: Teller, tmp_path: Path) -> None:
    async def story(cloud: Any) -> None:
        pem = ca(new("factory"))
        (tmp_path / "ca.pem").write_text(pem)
        made = await it(cloud.trusted_certificates.create(new("factory"), pem, description="all of it"))
        assert made.certificate.split() == pem.split() and made.service == "bootstrap" and made.status == "ACTIVE"
        assert made in await every(cloud.trusted_certificates(name=made.name))
        await it(made.update(status="INACTIVE"))
        assert (await it(cloud.trusted_certificates.get(made.id))).status == made.status == "INACTIVE"
        await it(made.delete())
        again = await it(cloud.trusted_certificates.create(new("file"), tmp_path / "ca.pem", service="lwm2m"))
        assert again.service == "lwm2m" and "factory" in again.subject
        await it(again.delete())
        with pytest.raises(ConfigError, match="cannot be read"):
            await it(cloud.trusted_certificates.create("x", tmp_path / "none.pem"))
        developer = await it(cloud.developer_certificates.create(new("developer")))
        found = await it(cloud.trusted_certificates(device_execution_mode=1).frame())
        assert developer.id in set(found["id"])
        await it(developer.delete())
        with pytest.raises(ServiceError, match="404"):
            await it(cloud.developer_certificates.get(developer.id))

    told(story)


def test_server_credentials(told: Teller, service: Service) -> None:
    async def story(cloud: Any) -> None:
        bootstrap, lwm2m = await it(cloud.server_credentials.bootstrap()), await it(cloud.server_credentials.lwm2m())
        assert (
            bootstrap.uri.startswith("coaps://") and lwm2m.uri.partition("?")[0] == service.lwm2m_uri.partition("?")[0]
        )
        assert bootstrap.certificate.startswith("-----BEGIN CERTIFICATE") and "BEGIN" not in repr(bootstrap)

    told(story)


def test_shared_keys_are_never_told_again(told: Teller) -> None:
    async def story(cloud: Any) -> None:
        name = new("a-device-with-a-shared-key")
        for secret in (bytes(range(16)), bytes(range(16)).hex()):
            made = await it(cloud.shared_keys.create(name, secret))
            assert made.endpoint_name == made.id == name and "secret_hex" not in made.fields
            assert name in set((await it(cloud.shared_keys().frame()))["endpoint_name"])
            assert bytes(range(16)).hex() not in repr(made) + made._repr_html_() + str(made.fields)
            await it(made.delete())

    told(story)


def test_metrics_are_a_frame(told: Teller, desk: Device) -> None:
    async def story(cloud: Any) -> None:
        frame = await it(cloud.metrics(interval="1h", period="1d").frame())
        assert {"timestamp", "transactions", "full_registrations"} <= set(frame.columns)
        assert isinstance(frame["timestamp"].dtype, pd.DatetimeTZDtype) and frame["full_registrations"].sum() >= 1
        assert list((await it(cloud.metrics("transactions").frame())).columns) == ["timestamp", "transactions"]

    told(story)


def ca(name: str) -> str:
    """Return the certificate of a new CA, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


def test_enrollments_one_by_one_and_by_file(told: Teller) -> None:
    async def story(cloud: Any) -> None:
        one = await it(cloud.enrollments.create(identity_of(new("one").encode())))
        assert one.claimed_at is None and one in await every(cloud.enrollments())
        await it(one.delete())
        identities = [identity_of(new("many").encode()) for _ in range(3)]
        for given in (identities, pd.DataFrame({"enrollment_identity": identities})):
            upload = await it(cloud.enrollments.upload(given))
            await it(upload.wait(timeout=30))
            assert (upload.total_count, upload.processed_count) == (3, 3)
        assert upload.errors_count == 3  # they were there already
        assert len(await it(upload.report())) == 3 and len(await it(upload.errors())) == 3
        deletion = await it(cloud.enrollments.give_up(identities))
        await it(deletion.wait(timeout=30))
        assert deletion.errors_count == 0 and (await it(deletion.errors())).empty
        with pytest.raises(ConfigError, match="no column"):
            await it(cloud.enrollments.upload(pd.DataFrame({"x": []})))
        assert (await it(cloud.denials(trusted_certificate_id="c" * 32).frame())).empty

    told(story)


def test_renewals(told: Teller, desk: Device) -> None:
    async def story(cloud: Any) -> None:
        renewal = await it((await it(cloud.device(desk.id))).renew_certificate())
        assert renewal.device_id == desk.id and renewal.certificate_name == "LWM2M"
        assert renewal in await every(cloud.renewals())

    told(story)


# -- looking -----------------------------------------------------------------------------------------------------------


def test_logs_queues_and_bootstraps(told: Teller, desk: Device) -> None:
    async def story(cloud: Any) -> None:
        device = await it(cloud.device(desk.id))
        await it(device.read("/3/0/0"))
        assert "/3/0/0" in set((await it(device.log()))["path"]) & set((await it(cloud.log()))["path"])
        last = (await it(device.messages()))[-1].number
        assert await it(device.messages(last)) == [] and len(await it(cloud.messages())) > 0
        assert (await it(device.queue())).empty
        with pytest.raises(ServiceError, match="404"):
            await it(device.bootstrap_steps())

    told(story)


def test_reprs_of_collections_say_where_they_are(told: Teller, service: Service) -> None:
    async def story(cloud: Any) -> None:
        for noun in vars(cloud).values():
            assert service.url in repr(noun)
        assert "Nouns" not in repr(cloud) and cloud.host == service.url

    told(story)
