"""`pdmlab dm create`, `create-v1`, `parse` and `update`, as people type them."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives import serialization

from pdmlab.aio import LoopThread
from pdmlab.cli import main
from pdmlab.cloud import Cloud
from pdmlab.errors import ManifestRejected
from pdmlab.firmware.image import ImageInfo, build_image
from pdmlab.service import serve
from pdmlab.service.service import Service
from pdmlab.update.developer import CERTIFICATE_FILE, KEY_FILE, Developer
from pdmlab.update.manifest import PayloadFormat, SignedManifest
from pdmlab.update.manifest_v1 import SignedManifestV1
from pdmlab.update.payloads.combined import SubImage, make_package
from tests.service.restlab import LINKS, Device

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    Developer(tmp_path).init("company.com", "thermostat")
    (tmp_path / "fw.bin").write_bytes(build_image(ImageInfo("example", "1.0.1"), size=4096))
    (tmp_path / "raw.bin").write_bytes(bytes(1000))
    runner = CliRunner()
    return lambda *arguments, **options: runner.invoke(main, ["dm", *map(str, arguments)], **options)


@pytest.fixture
def service() -> Iterator[Service]:
    with serve() as service:
        yield service


def test_an_image_is_signed_for_bootloaders_too_and_parse_checks_both(run: Run, tmp_path: Path) -> None:
    assert run("create", "-p", "fw.bin", "-u", "/fw", "-o", "m", "--sign-image", "-r", "5").exit_code == 0
    key = Developer(tmp_path).resources.public_key
    point = key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    (tmp_path / "point").write_bytes(point)
    for how in (("-c", CERTIFICATE_FILE), ("-k", KEY_FILE), ("-p", "point")):
        shown = run("parse", "m", *how)
        assert shown.exit_code == 0 and shown.output.count("by the owner of") == 2, shown.output
    told = json.loads(run("parse", "m", "-j").output)
    assert told["version"] == "1.0.1" and told["priority"] == "5" and "not checked" in told["signature"]


def test_a_signature_of_another_image_is_refused(run: Run, tmp_path: Path) -> None:
    developer = Developer(tmp_path)
    signed = SignedManifest.parse(developer.sign(b"image", version="1.0.0", uri="/fw", sign_image=True))
    signed.verify_image(developer.resources.public_key, hashlib.sha256(b"image").digest())
    with pytest.raises(ManifestRejected, match="does not fit"):
        signed.verify_image(developer.resources.public_key, hashlib.sha256(b"other").digest())
    unsigned = SignedManifest.parse(developer.sign(b"image", version="1.0.0", uri="/fw"))
    with pytest.raises(ManifestRejected, match="no signature of the image"):
        unsigned.verify_image(developer.resources.public_key)


def test_a_manifest_v1_is_made_and_shown(run: Run, tmp_path: Path) -> None:
    made = run("create-v1", "-p", "fw.bin", "-u", "/fw", "-o", "m", "-v", "1700000000", "-r", "2")
    assert made.exit_code == 0, made.output
    signed = SignedManifestV1.parse((tmp_path / "m").read_bytes())
    assert (signed.manifest.timestamp, signed.manifest.priority) == (1_700_000_000, 2)
    shown = run("parse", "m", "-c", CERTIFICATE_FILE)
    assert shown.exit_code == 0 and "1700000000" in shown.output and "by the owner" in shown.output
    assert run("parse", "m", "-k", KEY_FILE).exit_code == 0
    (tmp_path / "m").write_bytes((tmp_path / "m").read_bytes().replace(b"/fw", b"/wf"))
    assert run("parse", "m", "-c", CERTIFICATE_FILE).exit_code == 1
    both = run("create-v1", "-p", "fw.bin", "-u", "/fw", "-o", "m", "-v", "1", "--fw-migrate-ver", "1.2.3")
    assert both.exit_code == 2 and "exclude" in both.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("create", "-p", "fw.bin", "-o", "m"),
        ("create", "-p", "none.bin", "-u", "/fw", "-o", "m"),
        ("create", "-p", "fw.bin", "-u", "/fw", "-o", "m", "-v", "1.2"),
        ("create", "-p", "fw.bin", "-u", "/fw", "-o", "m", "-r", "-1"),
        ("create", "-p", "fw.bin", "-u", "/fw", "-o", "m", "--encrypted-size", "9"),
        ("create", "-p", "fw.bin", "-u", "/fw", "-o", "m", "--encrypted-size", "9", "--encrypted-digest", "ab"),
        ("create-v1", "-p", "fw.bin", "-u", "/fw", "-o", "m", "-v", "1.2.3"),
        ("parse", "fw.bin", "-k", KEY_FILE, "-c", CERTIFICATE_FILE),
        ("update",),
    ],
)
def test_what_is_typed_wrong_ends_with_status_2_as_with_the_stock_tool(
    run: Run, tmp_path: Path, words: tuple[str, ...]
) -> None:
    refused = run(*words)
    assert refused.exit_code == 2 and "Usage" in refused.stderr
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-p", "raw.bin", "-r", "4294967296"), "priority"),
        (("-p", "raw.bin", "--component-name", "a long name"), "component name"),
        (("-p", "raw.bin", "-d", "large"), "vendor data"),
        (("-p", "raw.bin", "-o", "nowhere/m"), "cannot be written"),
        (("-p", "delta.bin"), "no delta payload"),
    ],
)
def test_what_no_manifest_can_say_ends_with_status_1(
    run: Run, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    (tmp_path / "large").write_bytes(bytes(5000))
    for name in ("delta.bin", "delta.yaml"):
        (tmp_path / name).write_text("nothing")
    refused = run("create", "-u", "/fw", "-o", "m", *words)
    assert refused.exit_code == 1 and said in refused.stderr, refused.output


def test_a_payload_is_what_the_options_say(run: Run, tmp_path: Path) -> None:
    digest = hashlib.sha256(b"encrypted").digest()
    encrypted = ("--encrypted-digest", digest.hex(), "--encrypted-size", "9")
    package = make_package([SubImage("radio", b"image")])
    (tmp_path / "fw.tar").write_bytes(package)
    for options, form in (
        ((), PayloadFormat.RAW),
        (("--combined-image",), PayloadFormat.COMBINED),
        (encrypted, PayloadFormat.ENCRYPTED_RAW),
        ((*encrypted, "--combined-image"), PayloadFormat.ENCRYPTED_COMBINED),
    ):
        payload = "fw.tar" if "--combined-image" in options else "raw.bin"
        assert run("create", "-p", payload, "-u", "/fw", "-o", "m", *options).exit_code == 0
        manifest = SignedManifest.parse((tmp_path / "m").read_bytes()).manifest
        assert manifest.format is form and manifest.installed_size == (tmp_path / payload).stat().st_size
        assert (manifest.payload_digest == digest, manifest.payload_size == 9) == (encrypted[1] in options,) * 2
    refused = run("create", "-p", "raw.bin", "-u", "/fw", "-o", "none", "--combined-image")
    assert refused.exit_code == 1 and "raw.bin is no package" in refused.stderr and not (tmp_path / "none").exists()


# -- update ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def desk(run: Run, service: Service, tmp_path: Path) -> Iterator[Device]:
    """A device that is built with the folder's ids, and refuses every update."""
    resources = Developer(tmp_path).resources
    with LoopThread("devices") as loop:
        device = Device(lambda work: loop.run(work, timeout=30), service.core.lwm2m.address, "desk1")
        ids = {"/10255/0/3": resources.vendor_id, "/10255/0/4": resources.class_id}
        device.register(LINKS + ',</10252/0/1>,</14/0/2>;v="1.0.0"' + _links(ids))
        yield device
        device.close()


def _links(values: dict[str, bytes]) -> str:
    return "".join(f',<{path}>;v="{base64.b64encode(value).decode()}"' for path, value in values.items())


def left(service: Service) -> list[int]:
    with Cloud(service.url, service.api_key) as cloud:
        return [cloud.campaigns().count(), cloud.manifests().count(), cloud.firmware_images().count()]


def test_an_update_is_drafted_started_or_waited_for(run: Run, service: Service, desk: Device) -> None:
    drafted = run("update", "-p", "fw.bin", "-i", desk.id)
    assert drafted.exit_code == 0 and "nothing has been started" in drafted.output and left(service) == [1, 1, 1]
    waited = run("update", "-p", "fw.bin", "-i", desk.id, "-w", "-t", "30")
    assert waited.exit_code == 1 and f"\n  {desk.id}: " in waited.output, waited.output
    assert left(service) == [1, 1, 1]  # tidied up
    kept = run("update", "-p", "fw.bin", "-i", desk.id, "-w", "-t", "30", "--no-cleanup")
    assert kept.exit_code == 1 and left(service) == [2, 2, 2]


def test_what_is_to_be_encrypted_is_signed_as_it_will_be_fetched(
    run: Run, service: Service, desk: Device, tmp_path: Path
) -> None:
    assert run("update", "-p", "fw.bin", "-i", desk.id, "-e", "-u").exit_code == 0
    with Cloud(service.url, service.api_key) as cloud:
        (image,) = cloud.firmware_images()
        (row,) = cloud.manifests()
        assert image.encrypted is not None
        signed = SignedManifest.parse(httpx.get(row["datafile"], headers=_key(service)).content)
    manifest = signed.manifest
    assert manifest.format is PayloadFormat.ENCRYPTED_RAW and manifest.uri == image.short_url
    assert (manifest.payload_digest, manifest.payload_size) == image.encrypted
    assert manifest.installed_digest == hashlib.sha256((tmp_path / "fw.bin").read_bytes()).digest()


def _key(service: Service) -> dict[str, str]:
    return {"Authorization": f"Bearer {service.api_key}"}


def test_an_update_for_nobody_says_so(run: Run, service: Service) -> None:
    done = run("update", "-p", "fw.bin", "-w", "-t", "30")
    assert done.exit_code == 1 and left(service) == [0, 0, 0], done.output


def test_an_update_v1_names_the_time(run: Run, service: Service, desk: Device) -> None:
    done = run("update-v1", "-p", "raw.bin", "-i", desk.id)
    assert done.exit_code == 0, done.output
    with Cloud(service.url, service.api_key) as cloud:
        (manifest,) = cloud.manifests()
        assert manifest.timestamp is not None


def test_the_service_that_the_folders_tool_knows_is_asked_where_none_runs(run: Run, tmp_path: Path) -> None:
    Developer(tmp_path).tool.keep_service("http://127.0.0.1:1", "ak_secret")
    done = run("update", "-p", "fw.bin")
    assert done.exit_code == 1 and "127.0.0.1:1" in done.stderr and "ak_secret" not in done.output
