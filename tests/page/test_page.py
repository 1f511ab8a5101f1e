"""The page as its reader has it, in a browser: signed in, looking, and doing what devices and campaigns allow."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from playwright.sync_api import expect

from pdmlab import Cloud, running
from pdmlab.client import Lwm2mClient, PreSharedKey
from pdmlab.service import Service, serve
from pdmlab.service.schema import accounts
from pdmlab.sim.board import VirtualBoard
from pdmlab.update.manifest import Manifest
from tests.page.conftest import Apart, Tab
from tests.service.restlab import Device

pytestmark = [pytest.mark.debian, pytest.mark.timeout(120)]

MakeDevice = Callable[[str], Device]
MakeTab = Callable[..., Tab]


def other_account(service: Service) -> str:
    """Make another account, and return an administrator's key of it."""

    async def make() -> str:
        core = service.core
        id, at = core.store.ids.new(), core.store.timestamp()
        with core.store.begin() as db:
            db.execute(sa.insert(accounts).values(id=id, display_name="other", created_at=at, updated_at=at))
        key: str = core.accounts.create_key(id, "other")[1]
        return key

    key: str = service.call(make)
    return key


def test_nobody_sees_anything_without_a_key(open_tab: MakeTab, service: Service) -> None:
    tab = open_tab()
    page = tab.go("/devices/0123")
    expect(page).to_have_url(re.compile("/sign-in$"))
    assert all("/_nicegui" not in url for url in tab.asked)
    page.get_by_label("API key").fill("ak_wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("status")).to_contain_text("does not know this key")
    tab.complaints.clear()  # the browser notes the 401
    tab.sign_in(service.api_key)
    cookie = tab.context.cookies()[0]
    assert cookie["httpOnly"] and cookie["sameSite"] == "Strict"
    assert service.api_key not in page.content() + str(tab.context.cookies()) + " ".join(tab.asked)
    assert page.evaluate("JSON.stringify({...localStorage, ...sessionStorage})").find("ak_") == -1
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(re.compile("/sign-in"))
    expect(tab.go("/").get_by_label("API key")).to_be_visible()


def test_a_link_signs_in_once(open_tab: MakeTab, service: Service) -> None:
    link = service.page().link()
    tab = open_tab()
    page = tab.go(link.removeprefix(tab.address))
    expect(page.get_by_role("heading", name="Devices")).to_be_visible()
    assert "/enter/" not in page.url
    late = open_tab()
    expect(late.go(link.removeprefix(late.address)).get_by_role("status")).to_contain_text("has been used")
    assert service.api_key not in link and "ak_" not in repr(service.page()) + service.page()._repr_html_()


def test_devices_come_are_searched_and_asked(tab: Tab, device: MakeDevice) -> None:
    page = tab.page
    desk = device("desk-1")
    device("bench-1")
    expect(page.get_by_role("link", name="desk-1")).to_be_visible()  # it came by itself
    row = page.get_by_role("row", name="desk-1")
    expect(row).to_contain_text("registered")
    expect(row).to_contain_text("3,600 s")
    expect(row).to_contain_text("none")
    page.get_by_label("Search devices").fill("desk")
    expect(page.get_by_role("link", name="bench-1")).to_have_count(0)
    tab.open_device("desk-1")

    tab.act("/3/0/0", "Read")
    tab.expect("/3/0/0", "pdmlab")
    expect(tab.resource("/3/0/0").locator(".meta")).to_have_text(re.compile(r"text · \d\d:\d\d:\d\d UTC, host clock"))

    tab.act("/5000/0/2", "Write")
    page.get_by_label("Value").fill("34 37")  # an opaque resource, as the registry has it
    page.get_by_role("button", name="Write", exact=True).click()
    tab.expect("/5000/0/2", "47")
    assert desk.values["/5000/0/2"] == b"47"

    tab.act("/5000/0/3", "Execute")
    page.get_by_role("button", name="Execute", exact=True).click()
    expect(page.get_by_text("/5000/0/3 executed")).to_be_visible()
    assert desk.asked[-1] == "POST /5000/0/3"

    tab.act("/5000/0/1", "Observe")
    tab.expect("/5000/0/1", "test0")
    observing = tab.resource("/5000/0/1").get_by_role("button", name="Stop observing /5000/0/1")
    observing.hover()  # as the mouse stands right after the click
    expect(observing).to_have_css("background-color", "rgb(11, 92, 173)")
    expect(observing).to_have_css("color", "rgb(255, 255, 255)")
    for value in (b"18", b"21", b"19"):
        desk.tell("/5000/0/1", value)
    tab.expect("/5000/0/1", "19")
    expect(tab.resource("/5000/0/1").locator("svg.spark title")).to_have_text("3 values from 18 to 21")

    del desk.values["/3/0/0"]
    tab.act("/3/0/0", "Read")
    expect(tab.resource("/3/0/0").get_by_role("alert")).to_contain_text("404, 4.04")
    expect(tab.resource("/3/0/0").get_by_role("alert")).to_contain_text("The device has no such resource")


def test_the_devices_fit_the_window_and_their_names_and_ids_lead_to_them(tab: Tab, device: MakeDevice) -> None:
    wide = device("a-name-as-long-as-some-boards-have-0123456789abcdef01234567")
    page = tab.page
    row = page.get_by_role("row", name=wide.name)
    expect(row.get_by_role("cell").last).to_contain_text("127.0.0.1:")
    hidden = "(box) => box.scrollWidth - box.clientWidth"
    assert page.locator(".q-table__middle").evaluate(hidden) == 0
    assert page.evaluate(f"({hidden})(document.documentElement)") == 0
    row.get_by_role("link", name=wide.id).click()
    expect(page.get_by_role("heading", name=wide.name)).to_be_visible()


def test_a_path_that_is_no_view_leads_back(tab: Tab) -> None:
    page = tab.go("/nosuch")
    expect(page.get_by_role("heading", name="Not found")).to_be_visible()
    expect(page.get_by_text("The page has no view at /nosuch.")).to_be_visible()
    assert "HTTPException" not in page.content()
    page.locator(".view").get_by_role("link", name="Devices").click()
    expect(page.get_by_role("heading", name="Devices")).to_be_visible()
    assert [said for said in tab.complaints if "404" not in said] == []
    tab.complaints.clear()  # the browser notes the 404


def test_a_campaign_that_was_made_starts_only_when_its_number_of_devices_is_confirmed(
    tab: Tab, service: Service, device: MakeDevice
) -> None:
    update = service.update_resources()
    assert update is not None
    manifest = Manifest.for_image(
        b"image", version="9.0.0", uri="http://127.0.0.1/image", vendor_id=update.vendor_id, class_id=update.class_id
    ).sign(service.developer.private_key)
    target = device("draft-1")
    page = tab.go("/campaigns")
    page.get_by_role("button", name="New campaign").click()
    page.locator("input[type=file]").last.set_input_files(
        {"name": "to-9.0.0", "mimeType": "application/octet-stream", "buffer": manifest}
    )
    page.get_by_role("radio", name="one device").click()
    page.get_by_label("Endpoint name or id").fill(target.name)
    page.get_by_role("button", name="Make the campaign for 1 device").click()
    expect(page.get_by_text("draft", exact=True)).to_be_visible()
    page.get_by_role("button", name="Start", exact=True).click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_enabled()
    with Cloud(service.url, service.api_key) as cloud:
        assert [each.phase for each in cloud.campaigns() if each.id == page.url.rpartition("/")[2]] == ["draft"]


def test_messages_show_as_they_pass_and_can_be_had_as_a_capture(tab: Tab, device: MakeDevice, tmp_path: Path) -> None:
    device("talker-1")
    tab.open_device("talker-1")
    page = tab.page
    page.get_by_role("tab", name="Messages").click()
    log = page.get_by_role("log")
    expect(log.locator(".line").first).to_be_attached()
    expect(log).to_contain_text("2.01 Created")
    expect(log).not_to_contain_text("Manufacturer")
    page.get_by_role("tab", name="Resources").click()
    tab.act("/3/0/0", "Read")
    tab.expect("/3/0/0", "pdmlab")
    page.get_by_role("tab", name="Messages").click()
    expect(log.locator(".line", has_text="2.05 Content")).to_contain_text("Manufacturer = 'pdmlab'")
    page.get_by_label("Search messages").fill("created")
    expect(log.locator(".line")).to_have_count(1)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the messages for Wireshark").click()
    download.value.save_as(tmp_path / "talk.pcapng")
    assert (tmp_path / "talk.pcapng").read_bytes()[:4] == b"\x0a\x0d\x0d\x0a"
    page.get_by_role("tab", name="Events").click()
    expect(page.get_by_role("cell", name="update.device.device-registered")).to_be_visible()


def test_the_queue_says_why_something_waits(tab: Tab, device: MakeDevice, service: Service) -> None:
    sleeper = device("sleeper-1")
    sleeper.silent = True
    tab.open_device("sleeper-1")
    tab.act("/3/0/0", "Read")
    tab.page.get_by_role("tab", name="Queue").click()
    expect(tab.page.get_by_role("cell", name="GET /3/0/0", exact=True)).to_be_visible()
    sleeper.deregister()
    expect(tab.page.get_by_role("cell", name="the device is not registered")).to_be_visible()
    expect(tab.page.get_by_text("It cannot be asked just now")).to_be_visible()


def test_credentials_are_made_and_downloaded(tab: Tab, service: Service, tmp_path: Path) -> None:
    page = tab.go("/credentials")
    expect(page.get_by_text(service.bootstrap_uri)).to_be_visible()
    with page.expect_download() as download:
        page.get_by_label("Name of the credentials").fill("board-7")
        page.get_by_role("button", name="Make and download").click()
    assert download.value.suggested_filename == "mbed_cloud_dev_credentials.c"
    download.value.save_as(tmp_path / "credentials.c")
    assert f'MBED_CLOUD_DEV_ACCOUNT_ID[] = "{service.account_id}";' in (tmp_path / "credentials.c").read_text()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the C file of board-7").click()
    download.value.save_as(tmp_path / "again.c")
    assert (tmp_path / "again.c").read_text() == (tmp_path / "credentials.c").read_text()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the CA's certificate").click()
    download.value.save_as(tmp_path / "ca.pem")
    assert (tmp_path / "ca.pem").read_text() == service.ca_file.read_text()

    keys = page.locator("section", has=page.get_by_role("heading", name="API keys"))
    keys.get_by_label("Name of the key").fill("reader")
    keys.get_by_label("Group").click()
    page.get_by_role("option", name="Readers").click()
    keys.get_by_role("button", name="Make a key").click()
    secret = page.locator("[data-secret=key]")
    expect(secret).to_have_text(re.compile("^ak_"))
    key = secret.inner_text()
    expect(keys.get_by_role("cell", name="reader", exact=True)).to_be_visible()
    page.reload()
    expect(keys.get_by_role("cell", name="reader", exact=True)).to_be_visible()
    assert key not in page.content()  # shown once

    keys.get_by_role("button", name="Revoke the key reader").click()
    page.get_by_role("button", name="Revoke", exact=True).click()
    expect(keys.get_by_role("cell", name="reader", exact=True)).to_have_count(0)


def test_a_pre_shared_key_is_shown_once_and_lets_a_client_in(tab: Tab, service: Service) -> None:
    page = tab.go("/credentials")
    page.get_by_label("Endpoint name").fill("K64F-desk-000001")
    psks = page.locator("section", has=page.get_by_role("heading", name="Pre-shared keys"))
    psks.get_by_role("button", name="Make a key").click()
    secret = page.locator("[data-secret=psk]")
    expect(secret).to_have_text(re.compile("^[0-9a-f]{32}$"))
    key = PreSharedKey("K64F-desk-000001", bytes.fromhex(secret.inner_text()))
    server = service.lwm2m_uri.partition("?")[0]
    with Lwm2mClient("K64F-desk-000001", server, credentials=key) as client:
        client.start()
        page = tab.go("/")
        expect(page.get_by_role("row", name="K64F-desk-000001")).to_contain_text("DTLS")
    page = tab.go("/credentials")
    page.get_by_role("button", name="Revoke the key of K64F-desk-000001").click()
    page.get_by_role("button", name="Revoke", exact=True).click()
    expect(psks.get_by_role("cell", name="K64F-desk-000001", exact=True)).to_have_count(0)


def test_the_pages_own_key_may_be_revoked(tab: Tab, service: Service, device: MakeDevice) -> None:
    asked = device("asked-1")
    tab.open_device("asked-1")
    tab.act("/5000/0/1", "Observe")
    tab.expect("/5000/0/1", "test0")
    with Cloud(service.url, service.api_key) as cloud:
        (own,) = [key for key in cloud.api_keys() if key.name.startswith("page at ")]
        own.delete()
        tab.act("/3/0/0", "Read")
        tab.expect("/3/0/0", "pdmlab")
        asked.tell("/5000/0/1", b"seen")
        tab.expect("/5000/0/1", "seen")
        assert [key.id for key in cloud.api_keys() if key.name == own.name] not in ([], [own.id])


def test_a_key_that_only_reads_sees_buttons_that_say_so(
    tab: Tab, open_tab: MakeTab, service: Service, device: MakeDevice
) -> None:
    device("shown-1")
    page = tab.go("/credentials")
    keys = page.locator("section", has=page.get_by_role("heading", name="API keys"))
    keys.get_by_label("Name of the key").fill("only-reads")
    keys.get_by_label("Group").click()
    page.get_by_role("option", name="Readers").click()
    keys.get_by_role("button", name="Make a key").click()
    expect(page.locator("[data-secret=key]")).to_be_visible()
    reader = open_tab()
    reader.sign_in(page.locator("[data-secret=key]").inner_text())
    reader.open_device("shown-1")
    write = reader.resource("/5000/0/2").get_by_role("button", name="Write /5000/0/2: this key may only read")
    expect(write).to_be_disabled()
    reader.act("/3/0/0", "Read")
    reader.expect("/3/0/0", "pdmlab")
    expect(reader.go("/campaigns").get_by_role("button", name="New campaign")).to_be_disabled()

    keys.get_by_role("button", name="Revoke the key only-reads").click()
    page.get_by_role("button", name="Revoke", exact=True).click()
    expect(reader.page.get_by_role("status")).to_contain_text("not valid any more")


def test_two_accounts_do_not_see_each_other(tab: Tab, open_tab: MakeTab, service: Service, device: MakeDevice) -> None:
    mine = device("mine-1")
    expect(tab.page.get_by_role("link", name="mine-1")).to_be_visible()
    stranger = open_tab()
    page = stranger.sign_in(other_account(service))
    expect(page.get_by_text("No device has come yet")).to_be_visible()
    expect(page.get_by_text("pdmlab client -n desk1 -u 127.0.0.1:")).to_be_visible()
    expect(stranger.go(f"/devices/{mine.id}").get_by_text("The account has no device of this id")).to_be_visible()
    assert "mine-1" not in page.content()
    page = stranger.go("/credentials")
    expect(page.get_by_text("Account", exact=True)).to_be_visible()
    assert service.account_id not in page.content()


def test_the_page_says_that_the_service_is_away_and_goes_on_when_it_is_back(
    open_tab: MakeTab, page_of: Callable[[str], Apart]
) -> None:
    with serve(name="comes-back") as first:
        port, key = int(first.url.rpartition(":")[2]), first.api_key
        tab = open_tab(page_of(first.url).url)
        page = tab.sign_in(key)
        expect(page.get_by_text("No device has come yet")).to_be_visible()
        expect(page.get_by_text("live", exact=True)).to_be_visible()
    expect(page.get_by_role("alert")).to_contain_text(f"The service at {first.url} has not answered since")
    expect(page.get_by_text("away", exact=True)).to_be_visible()
    with serve(name="comes-back", port=port):
        expect(page.get_by_role("alert")).to_be_hidden()
        expect(page.get_by_text("live", exact=True)).to_be_visible()
        page.context.close()


def test_a_page_that_ended_with_its_service_says_so_in_the_browser_and_comes_back(
    open_tab: MakeTab, page_of: Callable[..., Apart], service: Service
) -> None:
    apart = page_of(service.url)
    tab = open_tab(apart.url)
    page = tab.sign_in(service.api_key)
    gone = page.get_by_role("alertdialog")
    expect(gone).to_be_hidden()
    assert apart.close() == 0
    expect(gone).to_contain_text(re.compile(r"The service at http://127.* does not answer since \d\d:\d\d:\d\d UTC"))
    expect(gone).to_contain_text("pdmlab service")
    assert page.url == f"{apart.url}/"
    expect(page.get_by_label("API key")).to_have_count(0)
    expect(page.get_by_text("live", exact=True)).to_be_hidden()
    page_of(service.url, int(apart.url.rpartition(":")[2]))
    expect(page.get_by_role("status")).to_contain_text("the page has started anew")
    tab.complaints.clear()  # the browser notes each time that nobody answered


def test_a_campaign_is_followed_to_its_end(tab: Tab, service: Service, tmp_path: Path) -> None:
    with VirtualBoard("K64F", id="page", memory=True, seed=3) as board:
        board.flash_application("example", version="1.0.0")
        board.console.expect(r"Device ID: ([0-9a-f]{32})", timeout=60)
        image = board.build("example", version="1.0.1")
        page = tab.go("/campaigns")
        page.get_by_role("button", name="Upload an image").click()
        page.locator("input[type=file]").set_input_files(
            {"name": "firmware.bin", "mimeType": "application/octet-stream", "buffer": image}
        )
        url = page.locator(".command", has_text=re.compile("^http")).inner_text()
        page.get_by_role("button", name="Close").click()
        update = service.update_resources()
        assert update is not None
        manifest = Manifest.for_image(
            image, version="1.0.1", uri=url, vendor_id=update.vendor_id, class_id=update.class_id
        ).sign(service.developer.private_key)

        page.get_by_role("button", name="New campaign").click()
        page.locator("input[type=file]").last.set_input_files(
            {"name": "to-1.0.1", "mimeType": "application/octet-stream", "buffer": manifest}
        )
        expect(page.get_by_label("Manifest").first).to_have_value("to-1.0.1")
        make = page.get_by_role("button", name="Make the campaign")
        expect(make).to_be_disabled()
        assert not page.get_by_role("radio", checked=True).count()
        expect(page.get_by_role("checkbox", name="start at once")).not_to_be_checked()
        page.get_by_role("radio", name="by a filter").click()
        expect(make).to_be_disabled()
        page.get_by_label("As state=registered").fill("vendor=x")
        expect(page.get_by_role("status").get_by_text("vendor")).to_be_visible()
        page.get_by_label("As state=registered").fill(f"vendor_id={update.vendor_id.hex()}")
        expect(make).to_have_text("Make the campaign for 1 device")
        page.get_by_role("checkbox", name="start at once").click()
        make.click()
        expect(page.get_by_role("heading", name="Update 1 device now?")).to_be_visible()
        page.get_by_role("button", name="Start for 1 device").click()
        row = page.get_by_role("row", name="success")
        expect(row).to_be_visible(timeout=60_000)
        expect(row.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "100")
        expect(row).to_contain_text(f"{len(image):,} of {len(image):,} B")
        expect(page.get_by_text("stopped", exact=True)).to_be_visible()

        turn = row.get_by_role("button", name="Slots, bootloader and reason")
        expect(turn).to_have_attribute("aria-expanded", "false")
        turn.click()
        closely = page.locator(".closely")
        slot = closely.locator("table.slots tr", has_text="active")
        expect(slot).to_contain_text("whole")
        expect(slot).to_contain_text("1.0.1")
        expect(slot).to_contain_text(hashlib.sha256(image).hexdigest())
        expect(closely.locator("svg [data-area='active (whole)']")).to_have_attribute("data-offset", str(0x10000))
        expect(closely.locator(".bootlog")).to_contain_text("New active firmware is valid")
        page.set_viewport_size({"width": 420, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= 420
        page.set_viewport_size({"width": 1280, "height": 800})
        asked = closely.get_by_text("UTC, service clock")
        before = asked.inner_text()
        page.wait_for_timeout(1000)  # the next second: it shows when the device was asked
        closely.get_by_role("button", name="Ask the device now").click()
        expect(asked).not_to_have_text(before)
        turn.click()
        expect(closely).to_have_count(0)
        page.get_by_role("button", name="Archive").click()
        expect(page.get_by_text("archived", exact=True)).to_be_visible()


def test_a_page_ends_with_whoever_started_it(page_of: Callable[[str], Apart], service: Service) -> None:
    apart = page_of(service.url)
    assert running.page_link(apart.url, service.api_key).startswith(f"{apart.url}/enter/")
    assert apart.close() == 0
