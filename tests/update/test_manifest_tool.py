"""The vendor's own manifest-tool 2.6.2 reads what pdmlab signs, and the other way round, with every option of both."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization

from pdmlab.cli import main
from pdmlab.cloud import Cloud
from pdmlab.errors import ConfigError, ManifestRejected
from pdmlab.service import serve
from pdmlab.update.checks import Acceptance, check
from pdmlab.update.credentials import RESOURCES_FILE, UpdateResources
from pdmlab.update.developer import CERTIFICATE_FILE, KEY_FILE, Developer
from pdmlab.update.manifest import PayloadFormat, SignedManifest
from pdmlab.update.manifest_tool import ToolFolder
from pdmlab.update.manifest_v1 import SignedManifestV1
from pdmlab.update.payloads.combined import SubImage, make_package
from pdmlab.update.payloads.patch import Delta
from pdmlab.update.results import FotaResult
from pdmlab.update.version import Version
from tests.update.stock_tool import StockTool, old_tool, stock_tool

IMAGE = bytes(range(256)) * 40
ENCRYPTED = hashlib.sha256(b"encrypted").hexdigest()
URL = "http://127.0.0.1/fw"


@pytest.fixture(scope="module")
def tool() -> Iterator[StockTool]:
    with stock_tool() as tool:
        yield tool


@pytest.fixture
def project(tmp_path: Path) -> Developer:
    developer = Developer(tmp_path)
    developer.init("company.com", "thermostat")
    (tmp_path / "fw.bin").write_bytes(IMAGE)
    (tmp_path / "fw.tar").write_bytes(make_package([SubImage("radio", IMAGE)]))
    (tmp_path / "vendor.bin").write_bytes(b"for the application")
    Delta.between(IMAGE, IMAGE + b"more").write(tmp_path / "delta.bin")
    return developer


def accepts(resources: UpdateResources, **changes: Any) -> Acceptance:
    versions = {"MAIN": Version(1, 0, 0), "radio": Version(1, 0, 0)}
    return Acceptance(
        resources.public_key, resources.vendor_id, resources.class_id, versions, storage_size=1 << 20, **changes
    )


def ours(folder: Path, *arguments: object) -> str:
    """Run pdmlab in a folder; return what it says."""
    here = Path.cwd()
    os.chdir(folder)
    try:
        done = CliRunner().invoke(main, ["dm", *map(str, arguments)])
    finally:
        os.chdir(here)
    assert done.exit_code == 0, done.output
    return done.output


OPTIONS: list[tuple[tuple[str, ...], PayloadFormat]] = [
    (("-p", "fw.bin"), PayloadFormat.RAW),
    (("-p", "fw.bin", "-m"), PayloadFormat.RAW),
    (("-p", "fw.bin", "-r", "7", "--component-name", "radio"), PayloadFormat.RAW),
    (("-p", "fw.bin", "-d", "vendor.bin", "--sign-image"), PayloadFormat.RAW),
    (("-p", "delta.bin", "-r", "4294967295", "-m"), PayloadFormat.DELTA),
    (("-p", "fw.tar", "--combined-image", "-m", "-d", "vendor.bin"), PayloadFormat.COMBINED),
    (("-p", "fw.bin", "--encrypted-digest", ENCRYPTED, "--encrypted-size", "99"), PayloadFormat.ENCRYPTED_RAW),
    (
        ("-p", "fw.tar", "--encrypted-digest", ENCRYPTED, "--encrypted-size", "99", "--combined-image"),
        PayloadFormat.ENCRYPTED_COMBINED,
    ),
]


@pytest.mark.parametrize(("options", "form"), OPTIONS)
def test_both_sign_the_same_bytes_and_each_verifies_the_other(
    tool: StockTool, project: Developer, options: tuple[str, ...], form: PayloadFormat
) -> None:
    create = ("create", "-u", URL, "-v", "1.2.3", *options)
    status, said = tool("dev_tool", *create, "-o", "theirs", folder=project.folder)
    assert status == 0, said
    ours(project.folder, *create, "-o", "ours")
    theirs, mine = (SignedManifest.parse((project.folder / name).read_bytes()) for name in ("theirs", "ours"))
    key = project.resources.public_key
    for signed in (theirs, mine):
        signed.verify(key)
        assert signed.manifest.format is form
    signature = theirs.manifest.installed_signature
    if signature:  # another each time, as ECDSA's are
        theirs.verify_image(key)
        mine.verify_image(key)
        assert mine.manifest.installed_signature is not None
        assert theirs.signed.replace(signature, mine.manifest.installed_signature) == mine.signed
    else:
        assert theirs.signed == mine.signed
    status, said = tool("mtool", "parse", "ours", "-k", KEY_FILE, folder=project.folder)
    assert status == 0 and "Manifest Signature verified!" in said
    assert ("Image Signature verified!" in said) == bool(signature)
    assert "by the owner" in ours(project.folder, "parse", "theirs", "-k", KEY_FILE)


def test_of_an_encrypted_image_that_is_signed_the_stock_tool_checks_another_digest_than_it_signed(
    tool: StockTool, project: Developer
) -> None:
    options = ("-p", "fw.bin", "--encrypted-digest", ENCRYPTED, "--encrypted-size", "99", "-m", "-v", "1.2.3")
    status, said = tool("dev_tool", "create", "-u", URL, "-o", "theirs", *options, folder=project.folder)
    assert status == 0, said
    status, said = tool("mtool", "parse", "theirs", "-k", KEY_FILE, folder=project.folder)
    assert status == 1 and "Image Signature verification failed" in said  # its own manifest
    assert "by the owner" in ours(project.folder, "parse", "theirs", "-k", KEY_FILE)
    SignedManifest.parse((project.folder / "theirs").read_bytes()).verify_image(
        project.resources.public_key, hashlib.sha256(IMAGE).digest()
    )


@pytest.mark.parametrize(
    "options", [(), ("-r", "3"), ("-d", "vendor.bin"), ("-p", "delta.bin"), ("--fw-migrate-ver", "1.2.3")]
)
def test_manifests_v1_are_the_same_to_the_byte_too(
    tool: StockTool, project: Developer, options: tuple[str, ...]
) -> None:
    payload = () if "-p" in options else ("-p", "fw.bin")
    version = () if "--fw-migrate-ver" in options else ("-v", "1700000000")
    create = ("create-v1", "-u", URL, *payload, *version, *options)
    status, said = tool("dev_tool", *create, "-o", "theirs", folder=project.folder)
    assert status == 0, said
    ours(project.folder, *create, "-o", "ours")
    theirs, mine = (SignedManifestV1.parse((project.folder / name).read_bytes()) for name in ("theirs", "ours"))
    assert theirs.signed == mine.signed and theirs.digest == mine.digest
    for signed in (theirs, mine):
        signed.verify(project.resources.default_certificate)
        signed.verify(project.resources.public_key)
    for how in (("-k", KEY_FILE), ("-c", CERTIFICATE_FILE)):
        status, said = tool("mtool", "parse", "ours", *how, folder=project.folder)
        assert status == 0 and "Manifest Signature verified!" in said
        assert "by the owner" in ours(project.folder, "parse", "theirs", *how)


def test_each_verifies_with_certificate_and_public_key_as_well(tool: StockTool, project: Developer) -> None:
    point = project.resources.public_key.public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    (project.folder / "point").write_bytes(point)
    (project.folder / "fw.manifest").write_bytes(project.sign(IMAGE, version="1.2.3", uri=URL))
    for how in (("-c", CERTIFICATE_FILE), ("-p", "point")):
        status, said = tool("mtool", "parse", "fw.manifest", *how, folder=project.folder)
        assert status == 0 and "Manifest Signature verified!" in said
        for shown in ("1.2.3", URL, project.resources.vendor_id.hex()):
            assert shown in said and shown in ours(project.folder, "parse", "fw.manifest", *how)


def test_the_stock_tool_refuses_a_changed_manifest(tool: StockTool, project: Developer) -> None:
    signed = project.sign(IMAGE, version="1.2.3", uri=URL)
    (project.folder / "fw.manifest").write_bytes(signed.replace(b"1.2.3", b"1.2.4"))
    assert tool("mtool", "parse", "fw.manifest", "-k", KEY_FILE, folder=project.folder)[0] == 1


def test_vendor_data_of_the_stock_tool_are_too_many_for_a_stock_device(tool: StockTool, project: Developer) -> None:
    status, said = tool(
        "dev_tool", "create", "-u", URL, "-p", "fw.bin", "-o", "out.manifest",
        "-v", "1.2.3", "-d", "vendor.bin", folder=project.folder,
    )  # fmt: skip
    assert status == 0, said
    with pytest.raises(ManifestRejected) as caught:
        check((project.folder / "out.manifest").read_bytes(), accepts(project.resources))
    assert caught.value.result == FotaResult.VENDOR_DATA_TOO_BIG


def test_versions_go_on_from_the_one_that_either_tool_signed_last(tool: StockTool, project: Developer) -> None:
    def theirs() -> str:
        create = ("create", "-u", URL, "-p", "fw.bin", "-o", "m")
        status, said = tool("dev_tool", *create, folder=project.folder)
        assert status == 0, said
        return SignedManifest.parse((project.folder / "m").read_bytes()).manifest.version

    def mine() -> str:
        ours(project.folder, "create", "-u", URL, "-p", "fw.bin", "-o", "m")
        return SignedManifest.parse((project.folder / "m").read_bytes()).manifest.version

    assert [mine(), theirs(), theirs(), mine()] == ["0.0.2", "0.0.3", "0.0.4", "0.0.5"]


# -- the folders -----------------------------------------------------------------------------------------------------


def test_pdmlab_reads_the_folder_that_the_stock_tool_sets_up(tool: StockTool, tmp_path: Path) -> None:
    status, said = tool("dev_tool", "init", "-a", "ak_1", "-u", "http://127.0.0.1:1", folder=tmp_path)
    assert status == 0, said
    developer = Developer(tmp_path)
    manifest = developer.sign(IMAGE, version="1.0.1", uri="/fw")
    assert check(manifest, accepts(developer.resources)).manifest.payload_size == len(IMAGE)
    pem = serialization.load_pem_private_key((tmp_path / KEY_FILE).read_bytes(), None)
    assert developer.private_key.private_numbers() == pem.private_numbers()  # type: ignore[union-attr]
    assert developer.tool.service() == ("http://127.0.0.1:1", "ak_1")
    (tmp_path / RESOURCES_FILE).unlink()  # the stock tool does not need it either
    assert check(developer.sign(IMAGE, version="1.0.1", uri="/fw"), accepts(developer.resources))


def test_a_folder_with_a_cache_elsewhere_is_read_with_its_name(tool: StockTool, tmp_path: Path) -> None:
    status, said = tool("dev_tool", "init", "--cache-dir", "keys", folder=tmp_path)
    assert status == 0, said
    (tmp_path / "fw.bin").write_bytes(IMAGE)
    ours(tmp_path, "create", "-u", URL, "-p", "fw.bin", "-o", "m", "--cache-dir", "keys")
    assert tool("mtool", "parse", "m", "-k", "keys/dev.key.pem", folder=tmp_path)[0] == 0


def test_the_stock_tool_reads_service_and_key_that_pdmlab_keeps(tool: StockTool, project: Developer) -> None:
    project.tool.keep_service("http://127.0.0.1:9", "ak_2")
    status, said = tool("dev_tool", "update", "-p", "fw.bin", "-v", "1.2.3", folder=project.folder)
    assert status == 1 and "port=9" in said  # nobody is there, but it has tried
    path = project.tool.cache / "dev.cloud_cfg.yaml"
    assert path.stat().st_mode & 0o077 == 0 or os.name == "nt"
    assert "ak_2" not in repr(project.tool)


def test_the_stock_tool_makes_a_campaign_from_a_folder_that_pdmlab_has_set_up(tool: StockTool, tmp_path: Path) -> None:
    with serve() as service:
        said = ours(tmp_path, "init", "-d", "company.com", "--model-name", "thermostat", "-q")
        assert service.api_key not in said
        (tmp_path / "fw.bin").write_bytes(IMAGE)
        status, said = tool("dev_tool", "update", "-p", "fw.bin", folder=tmp_path)
        assert status == 0, said
        with Cloud(service.url, service.api_key) as cloud:
            (manifest,) = cloud.manifests()
            assert manifest.device_class == Developer(tmp_path).resources.class_id.hex()
            assert cloud.campaigns().count() == 1


# -- manifest-tool 1.5.2 ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def old_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that manifest-tool 1.5.2 has set up, with a manifest that it has made of fw.bin."""
    folder = tmp_path_factory.mktemp("old")
    (folder / "fw.bin").write_bytes(IMAGE)
    for words in (
        ("init", "-d", "company.com", "-m", "thermostat", "-q", "-a", "ak_1", "-S", "http://127.0.0.1:1"),
        ("create", "-p", "fw.bin", "-u", URL, "-o", "theirs"),
    ):
        done = old_tool(*words, folder=folder)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_a_folder_of_the_older_tool_signs_and_its_manifests_are_verified(tool: StockTool, old_folder: Path) -> None:
    developer = Developer(old_folder)
    theirs = SignedManifestV1.parse((old_folder / "theirs").read_bytes())
    theirs.verify(developer.resources.default_certificate)
    assert (theirs.manifest.uri, theirs.manifest.payload_size) == (URL, len(IMAGE))
    assert len(theirs.manifest.nonce) == 16 and list(theirs.manifest.faults()) == []
    ours(old_folder, "create-v1", "-u", URL, "-p", "fw.bin", "-o", "ours")
    assert "by the owner" in ours(old_folder, "parse", "theirs", "-c", ".update-certificates/default.der")
    status, said = tool("mtool", "parse", "ours", "-c", ".update-certificates/default.der", folder=old_folder)
    assert status == 0 and "Manifest Signature verified!" in said
    assert check(developer.sign(IMAGE, version="1.0.1", uri="/fw"), accepts(developer.resources))
    assert developer.tool.service() == ("http://127.0.0.1:1", "ak_1")


def test_the_older_tool_verifies_manifests_v1_made_here(old_folder: Path) -> None:
    (old_folder / "mine").write_bytes(Developer(old_folder).sign_v1(IMAGE, uri=URL))
    config = ToolFolder(old_folder).identity()
    fingerprint = hashlib.sha256(config.certificate).hexdigest()
    (old_folder / ".update-certificates" / f"{fingerprint}").write_bytes(config.certificate)
    done = old_tool("parse", "-j", "-i", "mine", folder=old_folder)
    assert done.returncode == 0 and URL in done.stdout, done.stdout + done.stderr


def test_a_folder_that_leaves_signing_to_a_program_is_refused_with_words(tool: StockTool, tmp_path: Path) -> None:
    project = Developer(tmp_path)
    project.init("company.com", "thermostat")
    words = ("--key", "key-7", "--update-certificate", CERTIFICATE_FILE, "--signing-tool", "hsm.sh")
    status, said = tool("dev_tool", "init", *words, folder=tmp_path)
    assert status == 0, said
    with pytest.raises(ConfigError, match=r"leaves signing to a program, hsm\.sh"):
        project.sign(IMAGE, version="1.0.0", uri="/fw")


@pytest.mark.parametrize("name", ["psk-master-key", "signing-tool"])
def test_an_older_folder_without_a_key_of_its_own_is_refused_with_words(tmp_path: Path, name: str) -> None:
    (tmp_path / ".manifest_tool.json").write_text(f'{{"{name}": "x"}}')
    with pytest.raises(ConfigError, match="not offered"):
        Developer(tmp_path).sign(IMAGE, version="1.0.0", uri="/fw")
