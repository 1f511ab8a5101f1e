"""Combined packages: made, read by the stock tool and tar, taken apart, and refused where they are no packages."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import asn1tools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdmlab.errors import ConfigError, ManifestRejected
from pdmlab.update.payloads.combined import Package, PackedImage, SubImage, make_package
from pdmlab.update.results import FotaResult
from tests.tools import program

Tool = Callable[..., "subprocess.CompletedProcess[str]"]

RADIO, SCREEN = bytes(range(256)) * 7, b"screen" * 300
IMAGES = [SubImage("radio", RADIO, b"rev 2"), SubImage("screen", SCREEN)]
NAMES = ["radio", "screen"]

SCHEMA = asn1tools.compile_string(
    """P DEFINITIONS EXPLICIT TAGS ::= BEGIN
    D ::= SEQUENCE { n INTEGER, images SEQUENCE OF I, later INTEGER OPTIONAL }
    I ::= SEQUENCE { id UTF8String, v OCTET STRING, vs INTEGER, size INTEGER, later BOOLEAN OPTIONAL } END""",
    "der",
)


def read(package: bytes, names: list[str] = NAMES) -> Package:
    largest = 0

    def reader(at: int, size: int) -> bytes:
        nonlocal largest
        largest = max(largest, size)
        return package[at : at + size]

    try:
        return Package.read(reader, len(package), names=names)
    finally:
        assert largest <= 32 * 1024


def described(**changes: object) -> bytes:
    """A descriptor of the two images, with changes to the first."""
    first = {"id": "radio", "v": b"", "vs": 0, "size": len(RADIO), **changes}
    return bytes(
        SCHEMA.encode("D", {"n": 2, "images": [first, {"id": "screen", "v": b"", "vs": 0, "size": len(SCREEN)}]})
    )


def counted(images: int) -> bytes:
    """A descriptor that says how many images there are, and describes none."""
    return bytes(SCHEMA.encode("D", {"n": images, "images": []}))


def tar(*files: tuple[str, bytes], format: int = tarfile.USTAR_FORMAT, **about: object) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=format) as made:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for key, value in about.items():
                setattr(info, key, value)
            made.addfile(info, io.BytesIO(data))
    return written.getvalue()


DESCRIBED = ("_desc_", described())
FILES = ("radio", RADIO), ("screen", SCREEN)


def test_a_package_holds_its_images_as_they_are() -> None:
    package = make_package(IMAGES)
    parts = read(package)
    assert [image.name for image in parts.images] == NAMES
    assert [package[image.offset :][: image.size] for image in parts.images] == [RADIO, SCREEN]
    assert [image.vendor_data for image in parts.images] == [b"rev 2", b""]
    assert package == make_package(IMAGES)
    assert "<td>radio</td><td>1792</td><td>7265762032</td>" in parts._repr_html_()


@given(st.lists(st.tuples(st.from_regex(r"\A[a-z0-9.-]{1,8}\Z"), st.binary(max_size=1500), st.binary(max_size=32)),
                min_size=1, max_size=5, unique_by=lambda image: image[0]))  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_any_images_come_out_as_they_went_in(images: list[tuple[str, bytes, bytes]]) -> None:
    package = make_package([SubImage(*image) for image in images])
    parts = read(package, [name for name, _, _ in images])
    assert [(i.name, package[i.offset :][: i.size], i.vendor_data) for i in parts.images] == images


def test_devices_ignore_what_newer_tools_add_to_the_descriptor() -> None:
    newer = SCHEMA.encode(
        "D",
        {
            "n": 1,
            "images": [{"id": "radio", "v": b"", "vs": 0, "size": len(RADIO), "later": True}],
            "later": 7,
        },
    )
    package = tar(("_desc_", bytes(newer)), ("radio", RADIO))
    assert read(package, ["radio"]).images == (PackedImage("radio", 1536, len(RADIO)),)


def test_the_order_of_the_files_does_not_matter() -> None:
    package = tar(FILES[1], DESCRIBED, FILES[0])
    assert [image.name for image in read(package).images] == NAMES


def test_without_names_whatever_a_package_holds_is_read() -> None:
    package = make_package(IMAGES)
    assert Package.read(lambda at, size: package[at : at + size], len(package)) == read(package)
    many = tar(("_desc_", counted(256)))
    with pytest.raises(ManifestRejected, match="256 images"):
        Package.read(lambda at, size: many[at : at + size], len(many))


# -- what is not a package ---------------------------------------------------------------------------

GOOD = tar(DESCRIBED, *FILES)
BAD = FotaResult.COMBINED_PACKAGE
LINK = {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd", "size": 0}

REFUSED: dict[str, tuple[bytes, FotaResult, str]] = {
    "nothing": (b"", BAD, "no file _desc_"),
    "zeros": (bytes(10240), BAD, "no file _desc_"),
    "an image": (RADIO, BAD, "checksum"),
    "no descriptor": (tar(*FILES), BAD, "no file _desc_"),
    "a descriptor of other bytes": (tar(("_desc_", b"x" * 50), *FILES), BAD, "descriptor"),
    "a long descriptor": (tar(("_desc_", bytes(40_000)), *FILES), BAD, "at most 32768"),
    "a cut descriptor": (tar(("_desc_", described()[:-5]), *FILES), BAD, "descriptor"),
    "one image of two": (
        tar(("_desc_", counted(1)), *FILES), FotaResult.COMBINED_COUNT, "1 images",
    ),
    "more than a device can count": (
        tar(("_desc_", counted(255))), FotaResult.COMBINED_COUNT, "255 images",
    ),
    "fewer described than counted": (
        tar(("_desc_", counted(2)), *FILES), BAD, "was due",
    ),
    "a long name": (tar(("_desc_", described(id="radio-two")), *FILES), FotaResult.COMBINED_NAME, "radio-two"),
    "much vendor data": (
        tar(("_desc_", described(v=bytes(33), vs=33)), *FILES), FotaResult.COMBINED_VENDOR_DATA, "33 B of vendor data",
    ),
    "vendor data of another size": (
        tar(("_desc_", described(v=b"x", vs=2)), *FILES), BAD, "said to be 2",
    ),
    "a negative size": (tar(("_desc_", described(size=-1)), *FILES), BAD, "image of -1 B"),
    "an image of another size": (
        tar(("_desc_", described(size=5)), *FILES), BAD, "1792 B, its descriptor says 5",
    ),
    "an image for somebody else": (
        tar(("_desc_", described(id="modem")), ("modem", RADIO), FILES[1]), FotaResult.INTERNAL, "modem",
    ),
    "a missing image": (tar(DESCRIBED, FILES[0]), BAD, "'screen', which is not"),
    "an image described twice": (
        tar(("_desc_", described(id="screen", size=len(SCREEN))), FILES[1]), BAD, "names it twice",
    ),
    "an image that comes twice": (tar(DESCRIBED, *FILES, FILES[0]), BAD, "comes twice"),
    "a file too many": (tar(DESCRIBED, *FILES, ("more", b"")), BAD, "'more'"),
    "a path": (tar(DESCRIBED, *FILES, ("../../etc/x", b"")), BAD, r"'\.\./\.\./etc/x'"),
    "a link": (tar(DESCRIBED, *FILES, ("x", b""), **LINK), BAD, "no plain file"),
    "a long path": (tar(DESCRIBED, *FILES, ("d/" * 60 + "x", b"")), BAD, "no plain file"),
    "a name in a pax header": (
        tar(DESCRIBED, *FILES, ("é", b""), format=tarfile.PAX_FORMAT), BAD, "pax header",
    ),
    "a size in a pax header": (
        tar(DESCRIBED, *FILES, format=tarfile.PAX_FORMAT, pax_headers={"size": "1"}), BAD, "pax header",
    ),
    "a long pax header": (
        tar(DESCRIBED, *FILES, format=tarfile.PAX_FORMAT, pax_headers={"comment": "x" * 5000}),
        BAD, "too long",
    ),
    "something behind the end": (GOOD + b"x", BAD, "follows the package"),
    "a cut package": (GOOD[:3000], BAD, "goes beyond"),
    "more files than there can be": (
        tar(DESCRIBED, *FILES, *((f"f{n}", b"") for n in range(300))), BAD, "more than 256 files",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("package", "result", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_package_is_refused_with_the_stock_clients_result(
    package: bytes, result: FotaResult, reason: str
) -> None:
    with pytest.raises(ManifestRejected, match=reason) as caught:
        read(package)
    assert caught.value.result == result


def test_a_device_takes_as_many_images_as_it_has_sub_components() -> None:
    with pytest.raises(ManifestRejected) as caught:
        read(make_package(IMAGES), ["radio"])
    assert caught.value.result == FotaResult.COMBINED_COUNT


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255), st.integers(0, len(GOOD)))
@settings(max_examples=300, deadline=None)
def test_a_changed_package_is_refused_or_its_images_lie_within_it(at: int, byte: int, end: int) -> None:
    changed = (GOOD[:at] + bytes([byte]) + GOOD[at + 1 :])[: end if byte & 1 else len(GOOD)]
    try:
        parts = read(changed)
    except ManifestRejected as error:
        assert error.result in range(46, 50) or error.result == FotaResult.INTERNAL
    else:
        assert all(i.offset > 0 and i.offset + i.size <= len(changed) for i in parts.images)


@pytest.mark.parametrize(
    "images",
    [
        [],
        [SubImage("radio", b""), SubImage("radio", b"")],
        [SubImage("", b"")],
        [SubImage("radio two", b"")],
        [SubImage("radio-two", b"")],
        [SubImage("_desc_", b"")],
        [SubImage("../x", b"")],
        [SubImage("radio", b"", bytes(33))],
        [SubImage(str(number), b"") for number in range(256)],
    ],
)
def test_what_no_device_would_take_is_not_packed(images: list[SubImage]) -> None:
    with pytest.raises(ConfigError):
        make_package(images)


# -- manifest-tool 2.6.2 and tar ---------------------------------------------------------------------


def test_the_stock_tools_package_is_read_here(manifest_tool: Tool, tmp_path: Path) -> None:
    (tmp_path / "radio.bin").write_bytes(RADIO)
    (tmp_path / "screen.bin").write_bytes(SCREEN)
    (tmp_path / "package.yaml").write_text(
        "images:\n- {sub_comp_name: radio, vendor_data: rev 2, file_name: radio.bin}\n"
        "- {sub_comp_name: screen, vendor_data: x, file_name: screen.bin}\n"
    )
    done = manifest_tool(
        "package_tool.package_tool", "create", "-c", "package.yaml", "-f", "tar", "-a", 1, "-o", "package.tar",
        folder=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    package = (tmp_path / "package.tar").read_bytes()
    parts = read(package)
    assert [(i.name, package[i.offset :][: i.size], i.vendor_data) for i in parts.images] == [
        ("radio", RADIO, b"rev 2"),
        ("screen", SCREEN, b"x"),
    ]


def test_the_stock_tool_and_tar_read_what_is_packed_here(manifest_tool: Tool, tmp_path: Path) -> None:
    (tmp_path / "package.tar").write_bytes(make_package(IMAGES))
    done = manifest_tool("package_tool.package_tool", "parse", "-p", "package.tar", folder=tmp_path)
    assert done.returncode == 0, done.stdout
    for shown in ("b'radio'", "b'rev 2'", "('image-size', 1792)", "b'screen'", "('image-size', 1800)"):
        assert shown in done.stdout
    # The stock client's own installer calls the program.
    subprocess.run([program("tar"), "-xf", "package.tar"], cwd=tmp_path, check=True)
    assert (tmp_path / "radio").read_bytes() == RADIO and (tmp_path / "screen").read_bytes() == SCREEN
