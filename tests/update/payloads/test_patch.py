"""Delta payloads as files: the patch, and the .yaml beside it that tools read."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.builds import FEATURE, FIX, compiled
from pdmlab.errors import ConfigError
from pdmlab.firmware.image import ImageInfo, build_image
from pdmlab.update.developer import Developer
from pdmlab.update.manifest import PayloadFormat, SignedManifest
from pdmlab.update.payloads import unpacker
from pdmlab.update.payloads.delta import DeltaUnpacker
from pdmlab.update.payloads.patch import Delta
from tests.tools import program
from tests.update.payloads.bspatch import bspatch

Tool = Callable[..., "subprocess.CompletedProcess[str]"]

OLD, NEW = (build_image(ImageInfo("update", version), size=64 << 10) for version in ("1.0.0", "1.0.1"))


def test_a_delta_knows_the_images_it_leads_from_and_to() -> None:
    delta = Delta.between(OLD, NEW)
    assert delta.metadata.installed_size == len(NEW)
    assert delta.metadata.installed_digest == hashlib.sha256(NEW).digest()
    assert delta.metadata.precursor_digest == hashlib.sha256(OLD).digest()
    assert delta.ratio == len(delta.patch) / len(NEW) < 0.1
    assert repr(delta).startswith(f"<Delta of {len(delta.patch)} B for an image of {len(NEW)} B (")
    assert hashlib.sha256(OLD).hexdigest() in delta._repr_html_()


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    delta = Delta.between(OLD, NEW, frame_size=1024)
    assert delta.write(tmp_path / "fw.delta") == tmp_path / "fw.yaml"
    assert Delta.read(tmp_path / "fw.delta") == delta


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "installed-size: 5",
        "installed-size: x\ninstalled-digest: AAAA\nprecursor-digest: AAAA\n",
        f"installed-size: 5\ninstalled-digest: {'A' * 43}=\nprecursor-digest: '*'\n",
        f"installed-size: 5\ninstalled-digest: {'A' * 43}=\nprecursor-digest: {'A' * 43}=\nversion: 1.0\n",
        "a: [",
        "a: !!python/object:os.system {}",
    ],
)
def test_a_file_beside_it_that_is_something_else_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "fw.delta").write_bytes(b"PELION/BSDIFF001")
    (tmp_path / "fw.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"fw\.delta and fw\.yaml are no delta payload"):
        Delta.read(tmp_path / "fw.delta")


@pytest.mark.parametrize("missing", ["fw.delta", "fw.yaml"])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    Delta.between(OLD, NEW).write(tmp_path / "fw.delta")
    (tmp_path / missing).unlink()
    with pytest.raises(ConfigError, match=missing):
        Delta.read(tmp_path / "fw.delta")


@pytest.mark.parametrize(
    ("old", "new", "frame_size"), [(b"", b"x", 512), (b"x", b"", 512), (b"x", b"y", 127), (b"x", b"y", 1 << 15)]
)
def test_images_of_nothing_and_frames_out_of_range_make_no_patch(old: bytes, new: bytes, frame_size: int) -> None:
    with pytest.raises(ConfigError):
        Delta.between(old, new, frame_size=frame_size)


# -- manifest-tool 2.6.2 -----------------------------------------------------------------------------


@pytest.fixture
def builds(tmp_path: Path) -> Path:
    (tmp_path / "old.bin").write_bytes(OLD)
    (tmp_path / "new.bin").write_bytes(NEW)
    return tmp_path


@pytest.mark.parametrize("frame_size", [128, 512, 4096])
def test_the_stock_tools_patch_of_virtual_images_applies_here(
    manifest_tool: Tool, builds: Path, frame_size: int
) -> None:
    done = manifest_tool(
        "delta_tool.delta_tool", "-c", "old.bin", "-n", "new.bin", "-o", "fw.delta", "-b", frame_size, folder=builds
    )
    assert done.returncode == 0, done.stdout
    theirs, ours = Delta.read(builds / "fw.delta"), Delta.between(OLD, NEW, frame_size=frame_size)
    assert theirs.metadata == ours.metadata
    assert bspatch(theirs.patch, OLD) == bspatch(ours.patch, OLD) == NEW
    assert abs(len(theirs.patch) - len(ours.patch)) < 0.01 * len(theirs.patch)
    assert theirs.patch[:32] == ours.patch[:32]


def test_what_describes_a_patch_is_the_stock_tools_to_the_byte(manifest_tool: Tool, builds: Path) -> None:
    manifest_tool("delta_tool.delta_tool", "-c", "old.bin", "-n", "new.bin", "-o", "fw.delta", folder=builds)
    Delta.between(OLD, NEW).write(builds / "ours.delta")
    assert (builds / "ours.yaml").read_bytes() == (builds / "fw.yaml").read_bytes()
    Delta.between(OLD, NEW, version="1.0.1").write(builds / "ours.delta")  # a line more, after the tool's own
    assert (builds / "ours.yaml").read_bytes() == (builds / "fw.yaml").read_bytes() + b"version: 1.0.1\n"


def test_the_stock_tool_signs_a_delta_made_here_and_a_device_unpacks_it(manifest_tool: Tool, builds: Path) -> None:
    developer = Developer(builds)
    developer.init("company.com", "thermostat")
    delta = Delta.between(OLD, NEW, version="1.0.1")
    delta.write(builds / "fw.delta")
    done = manifest_tool(
        "dev_tool.dev_tool", "create", "-u", "http://127.0.0.1/fw", "-p", "fw.delta", "-o", "out.manifest",
        "-v", "1.0.1", folder=builds,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    signed = SignedManifest.parse((builds / "out.manifest").read_bytes(), developer.resources.public_key)
    assert signed.manifest.format is PayloadFormat.DELTA and signed.manifest.metadata == delta.metadata
    assert signed.manifest.payload_digest == hashlib.sha256(delta.patch).digest()
    unpacked = unpacker(signed, lambda at, size: OLD[at : at + size])
    assert b"".join(unpacked.feed(delta.patch)) + b"".join(unpacked.finish()) == NEW


# -- really compiled builds --------------------------------------------------------------------------


@pytest.mark.debian
@pytest.mark.parametrize("change", [FIX, FEATURE])
def test_a_delta_of_compiled_builds_is_a_tenth_of_their_size_and_the_stock_tools_is_no_smaller(
    manifest_tool: Tool, tmp_path: Path, change: str
) -> None:
    old, new = compiled(tmp_path, program("gcc"), change)
    delta = Delta.between(old, new)
    unpack = DeltaUnpacker(lambda at, size: old[at : at + size], len(new))
    assert b"".join(unpack.feed(delta.patch)) + b"".join(unpack.finish()) == bspatch(delta.patch, old) == new
    assert delta.ratio < 0.12
    # The tool wants the mark of a client that can apply patches.
    (tmp_path / "old.bin").write_bytes(old + b"PELION/BSDIFF001")
    (tmp_path / "new.bin").write_bytes(new)
    done = manifest_tool("delta_tool.delta_tool", "-c", "old.bin", "-n", "new.bin", "-o", "fw.delta", folder=tmp_path)
    assert done.returncode == 0, done.stdout
    theirs = (tmp_path / "fw.delta").read_bytes()
    assert bspatch(theirs, old) == new and len(delta.patch) < 1.01 * len(theirs)
