"""What devices and programs come in with: the C file, the CA's certificate, pre-shared keys, API keys, addresses."""

from __future__ import annotations

import secrets
from functools import partial
from typing import Any

from nicegui import ui

from pdmlab.errors import ConfigError, ServiceError
from pdmlab.page import words
from pdmlab.page.frame import Frame, button, heading, panel
from pdmlab.page.seat import NOT_ADMINISTRATOR, READ_ONLY

C_FILE = "mbed_cloud_dev_credentials.c"
SHOWN = 200
"""Of each list: the latest."""


class Credentials:
    """Keys, certificates and addresses, as one tab sees them."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._seat, self._api = frame.seat, frame.seat.api
        self._shown: dict[str, Any] = {}

    def show(self) -> None:
        """Draw it, and keep it fresh."""
        with ui.element("div").classes("headline"):
            heading(1, "Credentials")
        with ui.element("div").classes("columns"):
            with ui.element("div"):
                self._firmware()
                self._keys()
            with ui.element("div"):
                self._addresses()
                self._psks()
        self._frame.every(3.0, self.look)

    async def look(self) -> None:
        """Show what there is now."""
        await self._look_at("addresses", "/lab/service", self._show_addresses)
        await self._look_at("psks", "/v2/device-shared-keys", self._show_psks, limit=SHOWN)
        if self._seat.may_write:
            await self._look_at(
                "certificates", "/v3/trusted-certificates", self._show_certificates,
                device_execution_mode__eq=1, order="DESC", limit=SHOWN,
            )  # fmt: skip
        if self._seat.is_administrator:
            await self._look_at("keys", "/v3/api-keys", self._show_keys, limit=SHOWN)

    async def _look_at(self, what: str, path: str, show: Any, **parameters: str | int) -> None:
        try:
            found = await self._api.get(path, **parameters)
        except ServiceError as error:
            if error.status not in (403, 404):
                raise
            return
        key = {**found, "time": None} if what == "addresses" else found
        if self._shown.get(what) != key:
            self._shown[what] = key
            show(found)

    # -- firmware --------------------------------------------------------------------------------------------

    def _firmware(self) -> None:
        may = "" if self._seat.may_write else READ_ONLY
        with panel("For firmware") as end:
            with end:
                button("CA certificate", label="Download the CA's certificate").on_click(
                    self._frame.does(self._download_ca)
                )
            with ui.element("div").classes("body"):
                ui.label(
                    f"{C_FILE}: compiled into a board's firmware, it brings the board here. It has a private key in it."
                )
                with ui.element("div").classes("headline"):
                    name = ui.input(placeholder="Name, new in the account").classes("find")
                    name.props('outlined dense maxlength=100 aria-label="Name of the credentials"')
                    make = button("Make and download", look="main", why_not=may)
            self._certificates = ui.element("div")

        async def made() -> str:
            wanted = str(name.value or "").strip() or f"page-{secrets.token_hex(3)}"
            answer = await self._api.call("POST", "/v3/developer-certificates", json={"name": wanted})
            ui.download.content(answer.json()["security_file_content"], C_FILE)
            name.value = ""
            return f"credentials {wanted}"

        make.on_click(self._frame.does(made, make))

    def _show_certificates(self, found: dict[str, Any]) -> None:
        self._certificates.clear()
        if not found["data"]:
            return
        with self._certificates:
            table = ui.table(
                columns=[
                    {"name": "name", "label": "Name", "field": "name", "align": "left", "classes": "wrap"},
                    {"name": "made", "label": "Made (UTC)", "field": "made", "align": "left"},
                    {"name": "act", "label": "", "field": "id", "align": "right"},
                ],
                rows=[
                    {"id": each["id"], "name": each["name"], "made": words.time_of(each["created_at"])}
                    for each in found["data"]
                ],
                row_key="id",
            ).props("flat dense hide-bottom :pagination='{rowsPerPage: 0}'")
            table.add_slot("body-cell-act", _act("C file", "Download the C file of"))
            table.on("act", lambda event: self._frame.does(partial(self._download_c, event.args))())

    async def _download_c(self, id: str) -> None:
        found = await self._api.get(f"/v3/developer-certificates/{id}")
        ui.download.content(found["security_file_content"], C_FILE)

    async def _download_ca(self) -> None:
        ui.download.content((await self._seat.addresses())["ca_certificate"], "pdmlab-ca.pem")

    # -- addresses -------------------------------------------------------------------------------------------

    def _addresses(self) -> None:
        with panel("Addresses"):
            self._facts = ui.element("div").classes("facts").style("grid-template-columns: 1fr")

    def _show_addresses(self, found: dict[str, Any]) -> None:
        self._facts.clear()
        rows = {
            "REST API, for programs": self._seat.url,
            "Its description": f"{self._seat.url}/docs",
            "Bootstrap server": found["bootstrap"],
            "LwM2M server": found["lwm2m"],
            "Bootstrap without security": found["plain_bootstrap"],
            "LwM2M without security": found["plain_lwm2m"],
            "Firmware images": found["images"],
            "Account": found["account_id"],
        }
        with self._facts:
            for name, value in rows.items():
                if value:
                    with ui.element("div"):
                        ui.label(name).classes("term")
                        ui.label(value).classes("mono").style("overflow-wrap: anywhere; user-select: all")

    # -- pre-shared keys -------------------------------------------------------------------------------------

    def _psks(self) -> None:
        may = "" if self._seat.may_write else READ_ONLY
        with panel("Pre-shared keys, for plain LwM2M clients"):
            with ui.element("div").classes("body"):
                with ui.element("div").classes("headline"):
                    name = ui.input(placeholder="Endpoint name, 16 to 64 characters").classes("find")
                    name.props('outlined dense maxlength=64 aria-label="Endpoint name"')
                    make = button("Make a key", why_not=may)
                shown = ui.element("div").style("display: contents")
            self._psk_list = ui.element("div")

        async def made() -> None:
            endpoint, secret = str(name.value or "").strip(), secrets.token_hex(16)
            if not endpoint:
                raise ConfigError("the key needs an endpoint name", hint="16 to 64 characters: K64F-desk-000001")
            body = {"endpoint_name": endpoint, "secret_hex": secret}
            await self._api.call("POST", "/v2/device-shared-keys", json=body)
            shown.clear()
            with shown:
                ui.label(f"The key of {endpoint}, in hex; it is shown this once:")
                ui.label(secret).classes("secret").props('data-secret="psk"')
            name.value = ""
            await self.look()

        make.on_click(self._frame.does(made, make))

    def _show_psks(self, found: dict[str, Any]) -> None:
        self._psk_list.clear()
        if not found["data"]:
            return
        with self._psk_list:
            table = ui.table(
                columns=[
                    {"name": "name", "label": "Endpoint name", "field": "name", "align": "left", "classes": "mono"},
                    {"name": "made", "label": "Made (UTC)", "field": "made", "align": "left"},
                    {"name": "act", "label": "", "field": "id", "align": "right"},
                ],
                rows=[
                    {"id": each["endpoint_name"], "name": each["endpoint_name"],
                     "made": words.time_of(each.get("created_at"))}
                    for each in found["data"]
                ],
                row_key="id",
            ).props("flat dense hide-bottom :pagination='{rowsPerPage: 0}'")  # fmt: skip
            if self._seat.may_write:
                table.add_slot("body-cell-act", _act("Revoke", "Revoke the key of"))
                table.on("act", lambda event: self._revoke(f"the key of {event.args}",
                                                           f"/v2/device-shared-keys/{event.args}"))  # fmt: skip

    # -- API keys --------------------------------------------------------------------------------------------

    def _keys(self) -> None:
        why_not = "" if self._seat.is_administrator else NOT_ADMINISTRATOR
        with panel("API keys"):
            with ui.element("div").classes("body"):
                with ui.element("div").classes("headline"):
                    name = (
                        ui.input(placeholder="Name")
                        .classes("find")
                        .props('outlined dense maxlength=100 aria-label="Name of the key"')
                    )
                    group = ui.select(["Developers", "Readers", "Administrators"], value="Developers")
                    group.props('outlined dense aria-label="Group"').classes("find short")
                    make = button("Make a key", why_not=why_not)
                if why_not:
                    ui.label(f"{self._seat.key_name}: {why_not}.").classes("quiet")
                shown = ui.element("div").style("display: contents")
            self._key_list = ui.element("div")

        async def made() -> None:
            wanted = str(name.value or "").strip()
            if not wanted:
                raise ConfigError("the key needs a name", hint="whose it is, or what it is for")
            body: dict[str, Any] = {"name": wanted, "groups": await self._group(str(group.value))}
            answer = (await self._api.call("POST", "/v3/api-keys", json=body)).json()
            shown.clear()
            with shown:
                ui.label(f"The key {wanted}; it is shown this once:")
                ui.label(answer["key"]).classes("secret").props('data-secret="key"')
            name.value = ""
            await self.look()

        make.on_click(self._frame.does(made, make))

    async def _group(self, name: str) -> list[str]:
        groups = (await self._api.get("/v3/policy-groups", limit=1000))["data"]
        return [str(each["id"]) for each in groups if each["name"] == name]

    def _show_keys(self, found: dict[str, Any]) -> None:
        self._key_list.clear()
        with self._key_list:
            table = ui.table(
                columns=[
                    {"name": "name", "label": "Name", "field": "name", "align": "left", "classes": "wrap"},
                    {"name": "status", "label": "Status", "field": "status", "align": "left",
                     "classes": "wide", "headerClasses": "wide"},
                    {"name": "made", "label": "Made (UTC)", "field": "made", "align": "left",
                     "classes": "wide", "headerClasses": "wide"},
                    {"name": "act", "label": "", "field": "id", "align": "right"},
                ],
                rows=[
                    {"id": each["id"], "name": each["name"], "key": each["key"], "status": each["status"].lower(),
                     "made": words.time_of(each["created_at"])}
                    for each in found["data"]
                ],
                row_key="id",
            ).props("flat dense hide-bottom :pagination='{rowsPerPage: 0}'")  # fmt: skip
            table.add_slot("body-cell-act", _act("Revoke", "Revoke the key"))
            names = {each["id"]: each["name"] for each in found["data"]}
            table.on("act", lambda event: self._revoke(f"the API key {names.get(event.args, '')}",
                                                       f"/v3/api-keys/{event.args}"))  # fmt: skip

    def _revoke(self, what: str, path: str) -> None:
        with ui.dialog() as dialog, ui.card().classes("dialog"):
            heading(2, f"Revoke {what}?")
            ui.label("Whoever uses it is refused from then on. That cannot be undone.")
            with ui.element("div").classes("buttons"):
                button("Keep it").on_click(dialog.close)
                sure = button("Revoke", look="plain danger")

            async def revoke() -> None:
                await self._api.call("DELETE", path)
                dialog.close()
                await self.look()

            sure.on_click(self._frame.does(revoke, sure))
        dialog.open()


def _act(text: str, verb: str) -> str:
    """Return a cell with a button that says which row was meant."""
    return (
        f'<q-td :props="props"><q-btn flat no-caps class="act" label="{text}"'
        f' :aria-label="`{verb} ${{props.row.name}}`"'
        f" @click=\"() => $parent.$emit('act', props.value)\"/></q-td>"
    )
