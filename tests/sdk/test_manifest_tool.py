"""The vendor's own manifest-tool, 2.6.2 and 1.5.2, unmodified, against a running service and devices."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from pdmlab.service.service import Service
from pdmlab.sim import VirtualBoard
from pdmlab.update.credentials import RESOURCES_FILE, UpdateResources
from pdmlab.update.results import FotaResult
from tests.sdk.lab import SdkLab
from tests.sdk.updatable import Fota, Hub
from tests.tools import environment
from tests.update.stock_tool import old_tool

CONNECTED = r"Connected to Pelion Device Management\. Device ID: ([0-9a-f]{32})"
IMAGE = b"firmware" * 500


class Project:
    """A folder that manifest-dev-tool has set up for the service."""

    def __init__(self, folder: Path, service: Service) -> None:
        self.folder = folder
        # The wheel is for CPython 3.11 alone, and pins what it uses.
        self._python = environment("manifest-tool-2.6.2", "manifest-tool==2.6.2", python="3.11")
        (folder / "fw.bin").write_bytes(IMAGE)
        made = self.tool("init", "-a", service.api_key, "-u", service.url)
        assert made.returncode == 0, made.stderr
        self.resources = UpdateResources.from_c((folder / RESOURCES_FILE).read_text())

    def tool(self, *arguments: str, module: str = "dev_tool.dev_tool") -> subprocess.CompletedProcess[str]:
        """Run manifest-dev-tool, or another of the tools."""
        command = [str(self._python), "-W", "ignore", "-m", f"manifesttool.{module}", *arguments]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=120)

    def desk(self, lab: SdkLab, name: str, kind: type[Fota] = Fota) -> Fota:
        """Return a device that is built with the project's ids: the tool's campaigns are for such alone."""

        class Built(kind):  # type: ignore[valid-type, misc]
            def links(device) -> str:
                device.vendor_id, device.class_id = self.resources.vendor_id, self.resources.class_id
                return str(super().links())

        made = lab.device(name, kind=Built)
        assert isinstance(made, Fota)
        return made


@pytest.fixture
def project(tmp_path: Path, service: Service) -> Project:
    return Project(tmp_path, service)


def said(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout[-3000:] + done.stderr[-3000:]


def left(lab: SdkLab) -> list[str]:
    """Return what the tool has left at the service."""
    paths = ("/v3/firmware-images", "/v3/firmware-images/upload-jobs", "/v3/firmware-manifests", "/v3/update-campaigns")
    return [each["id"] for path in paths for each in lab.rest.get(path).json()["data"]]


# -- manifest-tool 2.6.2 ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_virtual_board_is_updated_by_the_stock_tool(lab: SdkLab, project: Project) -> None:
    with VirtualBoard("K64F", id="by-the-tool", memory=True, seed=3) as board:
        board.flash_application("example", update_resources=project.resources)
        device_id = board.console.expect(CONNECTED, timeout=30)[1]
        image = board.build("example", version="1.0.1", update_resources=project.resources)
        (project.folder / "board.bin").write_bytes(image)
        done = project.tool("update", "-p", "board.bin", "-v", "1.0.1", "-i", device_id, "-w", "-t", "90")
        assert done.returncode == 0, said(done)
        assert re.search(r"Successfully updated: +1\b", said(done)) and re.search(r"in this campaign: 1\b", said(done))
        assert str(board.installed()) == "example 1.0.1 (build 0)"
    assert left(lab) == []  # it has cleaned up behind itself


@pytest.mark.slow
@pytest.mark.parametrize("version", [(), ("-v", "1800000000")])
def test_a_virtual_board_of_the_update_hub_is_updated_with_the_stock_tools_manifests_v1(
    lab: SdkLab, project: Project, version: tuple[str, ...]
) -> None:
    with VirtualBoard("K64F", id=f"hub-by-the-tool-{len(version)}", memory=True, seed=3, bootloader="mbed") as board:
        board.flash_application("example", update_resources=project.resources)
        device_id = board.console.expect(CONNECTED, timeout=30)[1]
        image = board.build("example", version="1.0.1", update_resources=project.resources)
        (project.folder / "board.bin").write_bytes(image)
        done = project.tool("update-v1", "-p", "board.bin", *version, "-i", device_id, "-w", "-t", "60")
        assert done.returncode == 0, said(done)
        assert str(board.installed()) == "example 1.0.1 (build 0)"
    assert left(lab) == []


@pytest.mark.slow
def test_a_virtual_board_is_updated_by_the_stock_tools_patch_of_its_image(lab: SdkLab, project: Project) -> None:
    with VirtualBoard("K64F", id="delta", memory=True, seed=3) as board:
        for version in ("1.0.0", "1.0.1"):
            image = board.build("example", version=version, update_resources=project.resources)
            (project.folder / f"{version}.bin").write_bytes(image)
        board.flash((project.folder / "1.0.0.bin").read_bytes())
        device_id = board.console.expect(CONNECTED, timeout=30)[1]
        made = project.tool("-c", "1.0.0.bin", "-n", "1.0.1.bin", "-o", "fw.delta", module="delta_tool.delta_tool")
        assert made.returncode == 0, said(made)
        done = project.tool("update", "-p", "fw.delta", "-v", "1.0.1", "-i", device_id, "-w", "-t", "90")
        assert done.returncode == 0, said(done)
        assert str(board.installed()) == "example 1.0.1 (build 0)"
        # The same patch again leads from another image than the one that runs by now.
        again = project.tool("update", "-p", "fw.delta", "-v", "1.0.2", "-i", device_id, "-w", "-t", "90")
        assert again.returncode == 1 and FotaResult.PRECURSOR_MISMATCH.meaning.capitalize() in said(again)
    assert left(lab) == []


@pytest.mark.slow
def test_a_device_that_refuses_makes_the_tool_fail_and_say_why(lab: SdkLab, project: Project) -> None:
    desk = project.desk(lab, "refuses")
    desk.fails_with = 23
    done = project.tool("update", "-p", "fw.bin", "-v", "1.0.1", "-i", desk.id, "-w", "-t", "60")
    assert done.returncode == 1, said(done)
    assert f"Failed to update 1 devices: {desk.id}" in said(done)
    assert "signature" in said(done).partition("Reasons for failed updates:")[2]
    assert left(lab) == [] and desk.installed == []


@pytest.mark.slow
def test_a_device_that_never_answers_makes_the_tool_give_up(lab: SdkLab, project: Project) -> None:
    desk = project.desk(lab, "silent")
    desk.silent = True
    done = project.tool("update", "-p", "fw.bin", "-v", "1.0.1", "-i", desk.id, "-w", "-t", "4")
    assert done.returncode == 1 and "Campaign timed out" in said(done), said(done)
    assert left(lab) == []


@pytest.mark.slow
def test_a_short_url_leads_to_the_image_as_well(lab: SdkLab, project: Project) -> None:
    desk = project.desk(lab, "short")
    done = project.tool("update", "-p", "fw.bin", "-v", "1.0.1", "-i", desk.id, "-u", "-w", "-t", "60")
    assert done.returncode == 0, said(done)
    assert desk.image == IMAGE and desk.installed == ["1.0.1"]


@pytest.mark.slow
def test_a_virtual_board_is_updated_by_the_stock_tool_with_an_image_that_the_service_encrypts(
    lab: SdkLab, project: Project
) -> None:
    with VirtualBoard("K64F", id="encrypted", memory=True, seed=3) as board:
        board.flash_application("example", update_resources=project.resources)
        device_id = board.console.expect(CONNECTED, timeout=30)[1]
        image = board.build("example", version="1.0.1", update_resources=project.resources)
        (project.folder / "board.bin").write_bytes(image)
        done = project.tool("update", "-p", "board.bin", "-v", "1.0.1", "-i", device_id, "-e", "-w", "-t", "90")
        assert done.returncode == 0, said(done)
        assert str(board.installed()) == "example 1.0.1 (build 0)"
    assert left(lab) == []


@pytest.mark.slow
def test_an_image_of_more_than_100_mib_comes_in_chunks(lab: SdkLab, project: Project) -> None:
    size = (101 << 20) + 5
    with (project.folder / "large.bin").open("wb") as file:
        file.truncate(size)  # a file of zeros alone: each of its chunks is like the one before
    done = project.tool("update", "-p", "large.bin", "-v", "1.0.1")
    assert done.returncode == 0, said(done)
    (image,) = lab.rest.get("/v3/firmware-images").json()["data"]
    assert image["datafile_size"] == size and lab.rest.get("/v3/firmware-images/upload-jobs").json()["data"] == []
    (campaign,) = lab.rest.get("/v3/update-campaigns").json()["data"]
    assert campaign["phase"] == "draft"
    for path in (f"update-campaigns/{campaign['id']}", f"firmware-manifests/{campaign['root_manifest_id']}"):
        assert lab.rest.delete(f"/v3/{path}").status_code == 204
    assert lab.rest.delete(f"/v3/firmware-images/{image['id']}").status_code == 204


@pytest.mark.parametrize(
    ("command", "options", "version", "timestamp"),
    [
        ("create", ("-v", "1.2.3"), "1.2.3", None),
        ("create", ("-v", "1.2.3", "--sign-image"), "1.2.3", None),
        ("create-v1", ("-v", "1700000000"), "1700000000", "2023-11-14T22:13:20.000000Z"),
        ("create-v1", ("--fw-migrate-ver", "1.2.3"), "1.2.3", None),
    ],
)
def test_what_the_tool_makes_is_read(
    lab: SdkLab, project: Project, command: str, options: tuple[str, ...], version: str, timestamp: str | None
) -> None:
    made = project.tool(command, "-u", "http://127.0.0.1/fw", "-p", "fw.bin", "-o", "m.bin", *options)
    assert made.returncode == 0, said(made)
    der = (project.folder / "m.bin").read_bytes()
    answer = lab.rest.post("/v3/firmware-manifests", files={"datafile": der}, data={"name": command})
    assert answer.status_code == 201, answer.text
    manifest = answer.json()
    assert manifest["device_class"] == project.resources.class_id.hex()
    assert manifest["timestamp"] == timestamp or timestamp is None
    row = lab.service.call(lab.service.core.firmware.manifest, lab.service.account_id, manifest["id"])
    assert (row["version"], row["payload_size"], row["payload_uri"]) == (version, len(IMAGE), "http://127.0.0.1/fw")
    tampered = bytearray(der)
    tampered[der.index(b"http")] ^= 1
    # Of a manifest v1 the service can tell that it is another than was signed; of v3, the devices can.
    refused = lab.rest.post("/v3/firmware-manifests", files={"datafile": bytes(tampered)}, data={"name": "other"})
    assert refused.status_code == (201 if command == "create" else 400)
    for each in lab.rest.get("/v3/firmware-manifests").json()["data"]:
        lab.rest.delete(f"/v3/firmware-manifests/{each['id']}")


# -- manifest-tool 1.5.2, with the SDK -------------------------------------------------------------------------------


def set_up(folder: Path, service: Service) -> None:
    (folder / "fw.bin").write_bytes(IMAGE)
    words = ("-d", "company.com", "-m", "thermostat", "-q", "-a", service.api_key, "-S", service.url)
    made = old_tool("init", *words, folder=folder)
    assert made.returncode == 0, said(made)
    assert json.loads((folder / ".mbed_cloud_config.json").read_text())["host"] == service.url


@pytest.mark.slow
def test_the_old_tool_updates_a_board_of_the_update_hub_by_way_of_the_sdk(lab: SdkLab, tmp_path: Path) -> None:
    set_up(tmp_path, lab.service)
    board = lab.device("hub", kind=Hub)
    assert isinstance(board, Hub)
    done = old_tool("update", "device", "-p", "fw.bin", "-D", board.id, "-T", "60", folder=tmp_path)
    assert done.returncode == 0, said(done)
    assert "Finished in state: 'autostopped'" in said(done)
    assert board.image == IMAGE and len(board.installed) == 1
    assert left(lab) == []


@pytest.mark.slow
def test_the_old_tool_updates_a_virtual_board_of_the_update_hub(lab: SdkLab, tmp_path: Path) -> None:
    set_up(tmp_path, lab.service)
    resources = UpdateResources.from_c((tmp_path / RESOURCES_FILE).read_text())
    with VirtualBoard("K64F", id="hub-by-the-old-tool", memory=True, seed=4, bootloader="mbed") as board:
        board.flash_application("example", update_resources=resources)
        device_id = board.console.expect(CONNECTED, timeout=30)[1]
        image = board.build("example", version="1.0.1", update_resources=resources)
        (tmp_path / "board.bin").write_bytes(image)
        done = old_tool("update", "device", "-p", "board.bin", "-D", device_id, "-T", "60", folder=tmp_path)
        assert done.returncode == 0, said(done)
        assert str(board.installed()) == "example 1.0.1 (build 0)"
    assert left(lab) == []


@pytest.mark.slow
def test_the_old_tool_gives_up_a_board_that_never_answers(lab: SdkLab, tmp_path: Path) -> None:
    set_up(tmp_path, lab.service)
    board = lab.device("hub-silent", kind=Hub)
    board.silent = True
    done = old_tool("update", "device", "-p", "fw.bin", "-D", board.id, "-T", "2", folder=tmp_path)
    assert done.returncode == 1 and "Campaign timed out" in said(done), said(done)
    # It deletes the campaign while that runs, which is refused: it leaves all behind, and says so.
    assert "Cleanup of campaign failed" in said(done)
    (campaign,) = lab.rest.get("/v3/update-campaigns").json()["data"]
    assert campaign["phase"] == "active"
    assert lab.rest.post(f"/v3/update-campaigns/{campaign['id']}/stop").status_code == 202
