"""The host test of `connect` and `update` with the vendor's SDK as its hand, against a virtual board.

Each call is the one that sdk_host_tests.py of simple-mbed-cloud-client makes. What `mbed dm update device` does is made
of the same calls of UpdateAPI, with a manifest v1 for a board with the older update hub, as that time's manifest-tool
1.x has it, and a manifest v3 for a board with the FOTA client; test_manifest_tool.py has the tools themselves.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pdmlab.errors import ServiceError, TimedOut
from pdmlab.greentea import SdkHostTests, run
from pdmlab.sim import VirtualBoard
from pdmlab.update.bootloaders.interface import Kind
from tests.sdk.lab import SdkLab

SCRIPT = """
from mbed_cloud import AccountManagementAPI, ConnectAPI, DeviceDirectoryAPI, UpdateAPI

accounts, directory, connect = AccountManagementAPI(config), DeviceDirectoryAPI(config), ConnectAPI(config)
update = UpdateAPI(config)
made = []


def state(device):
    found = directory.get_device(device)
    return "absent" if found is None else found.state


def send(device, image):
    made.append((update.delete_firmware_image, update.add_firmware_image("greentea", image)))
    step("sign " + json.dumps(made[-1][1].url))
    manifest = update.add_firmware_manifest("greentea", given["manifest"])
    made.append((update.delete_firmware_manifest, manifest))
    campaign = update.add_campaign("greentea", {"id": {"$eq": device}}, manifest_id=manifest.id)
    made.append((update.delete_campaign, campaign))
    return update.start_campaign(campaign).state


def finish(device):
    directory.delete_device(device)
    while made and update.get_campaign(made[-1][1].id).phase != "stopped":
        pass
    while made:
        delete, what = made.pop()
        delete(what.id)


CALLS = {
    "account": lambda: accounts.get_account().id,
    "state": state,
    "read": lambda device, path: connect.get_resource_value(device, path, timeout=25),
    "write": lambda device, path, value: connect.set_resource_value(device, path, value, timeout=25),
    "execute": lambda device, path: connect.execute_resource(device, path, timeout=25),
    "update": send,
    "finish": finish,
}
while True:
    what = step("next")
    if what is None:
        break
    try:
        answer = {"is": CALLS[what[0]](*what[1:])}
    except Exception as error:
        answer = {"error": repr(error)[:500]}
    step("done " + json.dumps(answer))
connect.stop_notifications()
"""


class SdkManagement(Mapping[str, Callable[[], object]]):
    """The service as the host test uses it: by the vendor's SDK, in a process of its own that runs all the while."""

    def __init__(self, lab: SdkLab, folder: Path) -> None:
        self._lab, self._manifest = lab, folder / "manifest"
        self._image = folder / "image"
        self._asked: queue.Queue[list[str] | None] = queue.Queue()
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self.calls: list[str] = []
        self.to_hub = False
        run = partial(lab.run, SCRIPT, key=lab.new_key(), steps=self, manifest=str(self._manifest))
        self._sdk = threading.Thread(target=run, daemon=True)
        self._sdk.start()

    def __getitem__(self, step: str) -> Callable[[], object]:
        name, _, told = step.partition(" ")
        return {"next": self._asked.get, "sign": partial(self._sign, told), "done": partial(self._done, told)}[name]

    def __iter__(self) -> Iterator[str]:
        return iter(("next", "sign", "done"))

    def __len__(self) -> int:
        return 3

    def _done(self, told: str) -> None:
        self._answers.put(json.loads(told))

    def _sign(self, told: str) -> None:
        developer, image, uri = self._lab.service.developer, self._image.read_bytes(), json.loads(told)
        der = developer.sign_v1(image, uri=uri) if self.to_hub else developer.sign(image, version="1.0.1", uri=uri)
        self._manifest.write_bytes(der)

    def _ask(self, *call: str) -> Any:
        self.calls.append(call[0])
        self._asked.put(list(call))
        try:
            answer = self._answers.get(timeout=60)
        except queue.Empty:
            raise TimedOut(f"the SDK has not answered {call}") from None
        if "error" in answer:
            raise ServiceError(answer["error"], status=400)
        return answer["is"]

    @property
    def account_id(self) -> str:
        return str(self._ask("account"))

    def state(self, device_id: str) -> str:
        return str(self._ask("state", device_id))

    def read(self, device_id: str, path: str) -> str:
        return str(self._ask("read", device_id, path))

    def write(self, device_id: str, path: str, value: str) -> None:
        self._ask("write", device_id, path, value)

    def execute(self, device_id: str, path: str) -> None:
        self._ask("execute", device_id, path)

    def update(self, device_id: str, image: bytes) -> None:
        self._image.write_bytes(image)
        assert self._ask("update", device_id, str(self._image)) == "scheduled"

    def finish(self, device_id: str) -> None:
        self._ask("finish", device_id)

    def close(self) -> None:
        self._asked.put(None)
        self._sdk.join(60)


@pytest.fixture
def management(lab: SdkLab, tmp_path: Path) -> Iterator[SdkManagement]:
    made = SdkManagement(lab, tmp_path)
    yield made
    made.close()


@pytest.mark.slow
@pytest.mark.parametrize(("suite", "bootloader"), [("connect", "fota"), ("update", "fota"), ("update", "mbed")])
def test_a_suite_passes_with_the_vendors_sdk_as_the_host_tests_hand(
    lab: SdkLab, management: SdkManagement, suite: str, bootloader: Kind
) -> None:
    management.to_hub = bootloader == "mbed"
    id = f"by-the-sdk-{suite}-{bootloader}"
    with VirtualBoard("K64F", id=id, memory=True, seed=1, bootloader=bootloader) as board:

        def host_test() -> SdkHostTests:
            return SdkHostTests(
                management,
                account_id=lab.service.account_id,
                update_image=partial(board.build, "update", version="1.0.1"),
            )

        result = run(board, suite, host_tests={"sdk_host_tests": host_test})
        assert result.ok, (result, result.notes)
        assert set(result.cases["result"]) == {"OK"}
        installed = board.installed()
        assert installed is not None and installed.version == ("1.0.1" if suite == "update" else "1.0.0")
    wanted = {"account", "state", "finish"} | ({"update"} if suite == "update" else {"read", "write", "execute"})
    assert set(management.calls) == wanted
    for path in ("devices", "update-campaigns", "firmware-images", "firmware-manifests"):
        assert lab.rest.get(f"/v3/{path}").json()["data"] == []  # nothing is left behind
