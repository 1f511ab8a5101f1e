"""The vendor's own manifest-tool 2.6.2 reads what pdmlab signs, and the other way round."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from pdmlab.errors import ManifestRejected
from pdmlab.update.checks import Acceptance, check
from pdmlab.update.credentials import UpdateResources
from pdmlab.update.developer import CERTIFICATE_FILE, KEY_FILE, Developer
from pdmlab.update.results import FotaResult
from pdmlab.update.version import Version
from tests.tools import environment

Run = Callable[..., "subprocess.CompletedProcess[str]"]
IMAGE = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Run:
    # The wheel is for CPython 3.11 alone, and pins what it uses.
    python = environment("manifest-tool-2.6.2", "manifest-tool==2.6.2", python="3.11")

    def run(module: str, *arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [python, "-W", "ignore", "-m", f"manifesttool.{module}", *map(str, arguments)],
            cwd=folder,
            capture_output=True,
            text=True,
        )

    return run


@pytest.fixture
def project(tmp_path: Path) -> Developer:
    developer = Developer(tmp_path)
    developer.init("company.com", "thermostat")
    (tmp_path / "fw.bin").write_bytes(IMAGE)
    return developer


def accepts(resources: UpdateResources) -> Acceptance:
    return Acceptance(
        resources.public_key, resources.vendor_id, resources.class_id, {"MAIN": Version(1, 0, 0)}, storage_size=1 << 20
    )


@pytest.mark.parametrize("how", [("-k", KEY_FILE), ("-c", CERTIFICATE_FILE)])
def test_the_stock_tool_verifies_what_pdmlab_signs(tool: Run, project: Developer, how: tuple[str, str]) -> None:
    (project.folder / "fw.manifest").write_bytes(project.sign(IMAGE, version="1.2.3", uri="http://127.0.0.1/fw"))
    done = tool("mtool.mtool", "parse", "fw.manifest", *how, folder=project.folder)
    assert done.returncode == 0 and "Manifest Signature verified!" in done.stdout + done.stderr
    for shown in ("1.2.3", "http://127.0.0.1/fw", project.resources.vendor_id.hex()):
        assert shown in done.stdout + done.stderr


def test_the_stock_tool_refuses_a_changed_manifest(tool: Run, project: Developer) -> None:
    signed = project.sign(IMAGE, version="1.2.3", uri="http://127.0.0.1/fw")
    (project.folder / "fw.manifest").write_bytes(signed.replace(b"1.2.3", b"1.2.4"))
    assert tool("mtool.mtool", "parse", "fw.manifest", "-k", KEY_FILE, folder=project.folder).returncode == 1


@pytest.mark.parametrize("options", [(), ("--sign-image",), ("-r", "7")])
def test_pdmlab_accepts_what_the_stock_tool_signs_in_the_same_folder(
    tool: Run, project: Developer, options: tuple[str, ...]
) -> None:
    done = tool(
        "dev_tool.dev_tool", "create", "-u", "http://127.0.0.1/fw", "-p", "fw.bin", "-o", "out.manifest",
        "-v", "1.2.3", *options, folder=project.folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    manifest = check((project.folder / "out.manifest").read_bytes(), accepts(project.resources)).manifest
    assert (manifest.version, manifest.uri, manifest.payload_size) == ("1.2.3", "http://127.0.0.1/fw", len(IMAGE))
    assert len(manifest.installed_signature or b"") == (64 if "--sign-image" in options else 0)


def test_what_both_sign_is_the_same_to_the_byte(tool: Run, project: Developer) -> None:
    from pdmlab.update.manifest import SignedManifest

    tool(
        "dev_tool.dev_tool", "create", "-u", "http://127.0.0.1/fw", "-p", "fw.bin", "-o", "out.manifest",
        "-v", "1.2.3", folder=project.folder,
    )  # fmt: skip
    theirs = SignedManifest.parse((project.folder / "out.manifest").read_bytes())
    assert theirs.signed == SignedManifest.parse(project.sign(IMAGE, version="1.2.3", uri=theirs.manifest.uri)).signed


def test_vendor_data_of_the_stock_tool_are_too_many_for_a_stock_device(tool: Run, project: Developer) -> None:
    (project.folder / "vendor.bin").write_bytes(b"data")
    done = tool(
        "dev_tool.dev_tool", "create", "-u", "http://127.0.0.1/fw", "-p", "fw.bin", "-o", "out.manifest",
        "-v", "1.2.3", "-d", "vendor.bin", folder=project.folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with pytest.raises(ManifestRejected) as caught:
        check((project.folder / "out.manifest").read_bytes(), accepts(project.resources))
    assert caught.value.result == FotaResult.VENDOR_DATA_TOO_BIG


def test_pdmlab_reads_the_folder_that_the_stock_tool_sets_up(tool: Run, tmp_path: Path) -> None:
    done = tool("dev_tool.dev_tool", "init", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    developer = Developer(tmp_path)
    manifest = developer.sign(IMAGE, version="1.0.1", uri="/fw")
    assert check(manifest, accepts(developer.resources)).manifest.payload_size == len(IMAGE)
    pem = serialization.load_pem_private_key((tmp_path / KEY_FILE).read_bytes(), None)
    assert developer.private_key.private_numbers() == pem.private_numbers()  # type: ignore[union-attr]
