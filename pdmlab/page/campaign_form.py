"""A new campaign: an image for the service to keep, its signed manifest, and the devices that it is for."""

from __future__ import annotations

import datetime
from typing import Any
from urllib.parse import urlencode

from nicegui import events, ui

from pdmlab.errors import ConfigError, PdmlabError
from pdmlab.page import words
from pdmlab.page.api import Api
from pdmlab.page.frame import Frame, button, heading, say

MOST_IMAGE = 100 << 20  # B, the vendor's limit in one request
MOST_MANIFEST = 2048  # B
MANIFESTS = 50
"""Manifests that can be chosen: the latest."""

_ALL, _ONE, _FILTER = "all that are registered", "one device", "by a filter"


class CampaignForm:
    """The two dialogs."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._api = frame.seat.api

    def ask_for_image(self) -> None:
        """Take an image, and say where devices will find it: the manifest has to name that."""
        with ui.dialog() as dialog, ui.card().classes("dialog"):
            heading(2, "Upload a firmware image")
            ui.label("The manifest that you sign for it has to name the address that it gets here.").classes("quiet")

            async def keep(event: events.UploadEventArguments) -> None:
                upload.disable()
                try:
                    data = await event.file.read()
                    made = (
                        await self._api.call(
                            "POST",
                            "/v3/firmware-images",
                            data={"name": event.file.name[:100]},
                            files={"datafile": (event.file.name, data)},
                            timeout=120.0,
                        )
                    ).json()
                except PdmlabError as error:
                    say(error)
                    upload.enable()
                    upload.reset()
                    return
                upload.set_visibility(False)
                with said:
                    ui.label(f"{event.file.name}: {words.size(made['datafile_size'])}")
                    ui.label(f"SHA-256 {made['datafile_checksum']}").classes("mono quiet").style(
                        "overflow-wrap: anywhere"
                    )
                    ui.label("Its address:")
                    ui.label(made["datafile"]).classes("command")
                    ui.label("Sign its manifest where the update keys are, then make a campaign of that:")
                    ui.label(f"pdmlab dm create -p {event.file.name} -u {made['datafile']} -o fw.manifest").classes(
                        "command"
                    )

            upload = ui.upload(
                label="Choose or drop a file, at most 100 MiB",
                auto_upload=True,
                max_files=1,
                max_file_size=MOST_IMAGE,
                on_upload=keep,
                on_rejected=lambda: ui.notify("The file is too large.", type="negative", position="bottom-right"),
            ).props("flat")
            said = ui.element("div").style("display: contents")
            with ui.element("div").classes("buttons"):
                button("Close").on_click(dialog.close)
        dialog.open()

    async def ask(self) -> None:
        """Take a manifest and say which devices, make the campaign, and show it."""
        manifests: list[dict[str, Any]] = []

        async def list_them() -> None:
            found = await self._api.get("/v3/firmware-manifests", order="DESC", limit=MANIFESTS)
            manifests.extend(found["data"])

        await self._frame.does(list_them)()
        with ui.dialog() as dialog, ui.card().classes("dialog"):
            heading(2, "New campaign")
            name = ui.input(label="Name", value=f"update of {datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC")
            name.props("outlined dense maxlength=128").classes("field")
            options = {each["id"]: f"{each['name']} · {words.time_of(each['created_at'])}" for each in manifests}
            chosen = ui.select(options, label="Manifest")
            chosen.props("outlined dense").classes("field")

            async def keep(event: events.UploadEventArguments) -> None:
                try:
                    made = (
                        await self._api.call(
                            "POST",
                            "/v3/firmware-manifests",
                            data={"name": event.file.name[:100]},
                            files={"datafile": (event.file.name, await event.file.read())},
                        )
                    ).json()
                except PdmlabError as error:
                    say(error)
                    upload.reset()
                    return
                chosen.options[made["id"]] = made["name"]
                chosen.update()
                chosen.value = made["id"]

            upload = ui.upload(
                label="… or a signed manifest from a file (DER)",
                auto_upload=True,
                max_files=1,
                max_file_size=MOST_MANIFEST,
                on_upload=keep,
                on_rejected=lambda: ui.notify(f"No manifest: it has more than {MOST_MANIFEST:,} B.", type="negative",
                                              position="bottom-right"),
            ).props("flat")  # fmt: skip
            ui.label("For which devices?")
            which = ui.radio([_ALL, _ONE, _FILTER]).props("dense inline")
            text = ui.input(label="Endpoint name or id").props("outlined dense debounce=250").classes("field")
            text.bind_visibility_from(which, "value", lambda value: value in (_ONE, _FILTER))
            which.on_value_change(
                lambda: text.props(
                    f'label="{"Endpoint name or id" if which.value == _ONE else "As state=registered&device_class=…"}"'
                )
            )
            problem = ui.label("").classes("quiet").props('role="status"')
            start = ui.checkbox("start at once")
            with ui.element("div").classes("buttons"):
                button("Cancel").on_click(dialog.close)
                go = button("Make the campaign", look="main")
            go.disable()
            problem.set_visibility(False)
            asked = 0

            async def meant() -> tuple[str, int]:
                device_filter = await self._filter(str(which.value), str(text.value or "").strip())
                return device_filter, await count(self._api, device_filter)

            async def say_how_many() -> None:
                nonlocal asked
                asked += 1
                this, many, said = asked, None, ""
                if which.value == _ALL or text.value:
                    try:
                        _, many = await meant()
                    except PdmlabError as error:
                        said = words.error(error)
                if this != asked:
                    return  # something else has been chosen meanwhile
                if not said and many is not None and not chosen.value:
                    said = "Choose a manifest, or give the file of one."
                problem.set_text(said)
                problem.set_visibility(bool(said))
                go.set_text("Make the campaign" + ("" if many is None else f" for {words.devices(many)}"))
                go.set_enabled(many is not None and bool(chosen.value))

            for each in (chosen, which, text):
                each.on_value_change(say_how_many)

            async def make() -> None:
                device_filter, many = await meant()
                if start.value and not await sure_to_start(many):
                    return
                wanted = {
                    "name": str(name.value or "")[:128] or None,
                    "root_manifest_id": chosen.value,
                    "device_filter": device_filter,
                }
                made = (await self._api.call("POST", "/v3/update-campaigns", json=wanted)).json()
                if start.value:
                    await self._api.call("POST", f"/v3/update-campaigns/{made['id']}/start")
                ui.navigate.to(f"/campaigns/{made['id']}")

            go.on_click(self._frame.does(make, go))
        dialog.open()

    async def _filter(self, which: str, text: str) -> str:
        """Return the filter of the devices that are meant."""
        if which == _ALL:
            return urlencode({"state": "registered"})
        if not text:
            raise ConfigError("which devices are meant?", hint="name one, or write a filter")
        if which == _FILTER:
            return text
        for field in ("id", "endpoint_name"):
            found = (await self._api.get("/v3/devices", filter=urlencode({field: text})))["data"]
            if len(found) == 1:
                return urlencode({"id": found[0]["id"]})
        raise ConfigError(f"the directory has {len(found) or 'no'} device{'s'[: len(found) != 1]} {text[:64]!r}",
                          hint="the table of devices shows names and ids")  # fmt: skip


async def count(api: Api, device_filter: str) -> int:
    """Return how many devices a filter means now; raises as `Api.call` does."""
    found = await api.get("/v3/devices", filter=device_filter, include="total_count", limit=2)
    return int(found["total_count"])


async def sure_to_start(many: int) -> bool:
    """Ask once whether that many devices are to be updated now."""
    with ui.dialog() as dialog, ui.card().classes("dialog"):
        heading(2, f"Update {words.devices(many)} now?")
        ui.label("Each gets the manifest, downloads the image, installs it and restarts.")
        with ui.element("div").classes("buttons"):
            button("Cancel").on_click(lambda: dialog.submit(False))
            button(f"Start for {words.devices(many)}", look="main").on_click(lambda: dialog.submit(True))
    return bool(await dialog)
