"""`pdmlab dm delta` and `pdmlab dm package`, and that what they make is signed and taken."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pdmlab.cli import main
from pdmlab.firmware.image import ImageInfo, build_image
from pdmlab.update.developer import Developer
from pdmlab.update.manifest import PayloadFormat, SignedManifest
from pdmlab.update.payloads import unpacker
from pdmlab.update.payloads.patch import Delta

OLD, NEW, OTHER = (
    build_image(ImageInfo(application, version), size=32 << 10)
    for application, version in (("update", "1.0.0"), ("update", "1.0.1"), ("idle", "1.0.1"))
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, image in (("old.bin", OLD), ("new.bin", NEW), ("other.bin", OTHER)):
        (tmp_path / name).write_bytes(image)
    return tmp_path


def dm(*words: object) -> Result:
    return CliRunner().invoke(main, ["dm", *map(str, words)])


def test_a_patch_is_made_and_signed_as_a_delta(project: Path) -> None:
    developer = Developer(project)
    developer.init("company.com", "thermostat")
    made = dm("delta", "-c", "old.bin", "-n", "new.bin", "-o", "fw.delta")
    assert made.exit_code == 0, made.output
    patch = (project / "fw.delta").read_bytes()
    assert f"fw.delta: {len(patch)} B" in made.output and "fw.yaml describes it" in made.output
    assert Delta.read("fw.delta") == Delta.between(OLD, NEW, version="1.0.1")
    signed = dm("create", "-p", "fw.delta", "-u", "http://127.0.0.1/fw", "-o", "fw.manifest")
    assert signed.exit_code == 0, signed.output
    manifest = SignedManifest.parse((project / "fw.manifest").read_bytes(), developer.resources.public_key)
    assert manifest.manifest.format is PayloadFormat.DELTA and manifest.manifest.version == "1.0.1"  # the new image's
    refused = dm("create", "-p", "fw.delta", "-u", "http://127.0.0.1/fw", "-o", "fw.manifest", "-v", "1.0.2")
    assert refused.exit_code == 1 and "the image of the patch says that it is version 1.0.1" in refused.output
    unpack = unpacker(manifest, lambda at, size: OLD[at : at + size])
    assert b"".join(unpack.feed(patch)) + b"".join(unpack.finish()) == NEW


def test_a_patch_that_saves_nothing_is_refused_unless_it_is_wanted(project: Path) -> None:
    words = "delta", "-c", "old.bin", "-n", "other.bin", "-o", "fw.delta"
    refused = dm(*words)
    assert refused.exit_code == 1 and "builds of one program" in refused.output
    assert not list(project.glob("fw.*"))
    assert dm(*words, "--skip-size-check").exit_code == 0
    assert dm("delta", "-c", "old.bin", "-n", "new.bin", "-o", "fw.delta", "-t", 5).exit_code == 1
    assert dm("delta", "-c", "old.bin", "-n", "new.bin", "-o", "fw.delta", "-b", 127).exit_code == 2
    assert dm("delta", "-c", "old.bin", "-n", "new.bin", "-o", "no/fw.delta").exit_code == 1


def test_a_package_is_made_of_a_configuration_and_shown(project: Path) -> None:
    (project / "package.yaml").write_text(
        "images:\n- {sub_comp_name: radio, vendor_data: rev 2, file_name: old.bin}\n"
        "- {sub_comp_name: screen, file_name: new.bin}\n"
    )
    made = dm("package", "create", "-c", "package.yaml", "-o", "fw.tar")
    assert made.exit_code == 0 and made.output.startswith("fw.tar: "), made.output
    shown = dm("package", "parse", "-p", "fw.tar")
    assert shown.output == "radio: 32768 B, vendor data 7265762032\nscreen: 32768 B, vendor data none\n"


@pytest.mark.parametrize(
    "config",
    [
        "",
        "images: 5",
        "images: [{file_name: old.bin}]",
        "images: [{sub_comp_name: radio, file_name: none.bin}]",
        "a: [",
    ],
)
def test_a_configuration_that_names_no_images_is_refused(project: Path, config: str) -> None:
    (project / "package.yaml").write_text(config)
    refused = dm("package", "create", "-c", "package.yaml", "-o", "fw.tar")
    assert refused.exit_code == 1 and "Traceback" not in refused.output
    assert not (project / "fw.tar").exists()


def test_what_is_no_package_is_refused(project: Path) -> None:
    refused = dm("package", "parse", "-p", "old.bin")
    assert refused.exit_code == 1 and "old.bin is no package that a device would take" in refused.output


NESTED = "[" * 5000


def test_a_description_that_is_nested_too_deep_is_refused_in_a_line(project: Path) -> None:
    Developer(project).init("company.com", "thermostat")
    (project / "images.yaml").write_text(NESTED)
    packed = dm("package", "create", "-c", "images.yaml", "-o", "p.tar")
    assert packed.exit_code == 1 and "ConfigError: images.yaml names no images" in packed.output
    (project / "old.yaml").write_text(NESTED)  # beside old.bin: it says that this is a patch
    signed = dm("create", "-p", "old.bin", "-u", "http://127.0.0.1/fw", "-o", "m", "-v", "1.0.1")
    assert signed.exit_code == 1 and "ConfigError: old.bin and old.yaml are no delta payload" in signed.output
    (project / ".manifest-dev-tool" / "dev.cfg.yaml").write_text(NESTED)
    signed = dm("create", "-p", "new.bin", "-u", "http://127.0.0.1/fw", "-o", "m", "-v", "1.0.1")
    assert signed.exit_code == 1 and "dev.cfg.yaml cannot be read" in signed.output


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no /dev")
@pytest.mark.parametrize(
    ("words", "most"),
    [
        (("parse", "/dev/zero"), 64 << 10),
        (("parse", "old.manifest", "-c", "/dev/zero"), 64 << 10),
        (("convert", "/dev/zero", "-o", "x"), 64 << 10),
        (("create", "-p", "/dev/zero", "-u", "http://127.0.0.1/fw", "-o", "x"), 256 << 20),
        (("create", "-p", "old.bin", "-d", "/dev/zero", "-u", "http://127.0.0.1/fw", "-o", "x"), 64 << 10),
        (("delta", "-c", "old.bin", "-n", "/dev/zero", "-o", "x"), 256 << 20),
        (("package", "create", "-c", "/dev/zero", "-o", "x"), 1 << 20),
        (("package", "parse", "-p", "/dev/zero"), 256 << 20),
    ],
)
def test_a_file_without_an_end_is_refused(project: Path, words: tuple[str, ...], most: int) -> None:
    developer = Developer(project)
    developer.init("company.com", "thermostat")
    (project / "old.manifest").write_bytes(developer.sign(OLD, version="1.0.0", uri="http://127.0.0.1/fw"))
    result = dm(*words)
    assert result.exit_code == 1 and f"ConfigError: /dev/zero has more than {most:,} B" in result.output, result.output
