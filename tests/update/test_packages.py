"""Packages of object 5: what is in them is found, and whatever else arrives ends with a result."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdmlab.errors import ConfigError
from pdmlab.firmware.image import ImageInfo, build_image, descriptor_size, read_image
from pdmlab.update.header import FLAG_ENCRYPTED, FirmwareHeader
from pdmlab.update.object5 import Result, explain
from pdmlab.update.packages import BareImage, HeadedImage, Package, PackageRejected, open_package, pack_image
from pdmlab.update.version import Version

IMAGE = build_image(ImageInfo("example", "1.2.3"), size=4096)
PACKAGE = pack_image(IMAGE, "1.2.3")


@dataclass
class InMemory:
    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, position: int, size: int) -> bytes:
        return self.data[position : position + size]


def names(package: Package) -> tuple[str, str] | None:
    try:
        found = read_image(package.read(0, descriptor_size(package.read(0, 0x210))))
    except Exception as error:
        assert type(error).__name__ == "ImageRejected"
        return None
    return found.application, found.version


KINDS = (HeadedImage(), BareImage(names))


@pytest.mark.parametrize("package", [PACKAGE, IMAGE, pack_image(IMAGE, "1.2.3", sign=lambda digest: b"s" * 64)])
def test_the_image_of_a_package_is_found(package: bytes) -> None:
    firmware = open_package(InMemory(package), KINDS)
    assert b"".join(firmware.image()) == IMAGE
    assert (str(firmware.version), firmware.size) == ("1.2.3", len(IMAGE))
    assert firmware.digest == hashlib.sha256(IMAGE).digest()
    assert bool(firmware.signature) == (len(package) == len(PACKAGE) + 64)


@pytest.mark.parametrize(
    ("package", "result"),
    [
        (b"", Result.PACKAGE_TYPE),
        (b"\0" * 5000, Result.PACKAGE_TYPE),
        (PACKAGE[:100], Result.INTEGRITY),
        (PACKAGE[:-1], Result.INTEGRITY),
        (PACKAGE + b"\0", Result.INTEGRITY),
        (PACKAGE[:-1] + b"?", Result.INTEGRITY),
        (build_image(ImageInfo("example", "next"), size=4096), Result.PACKAGE_TYPE),
        (FirmwareHeader(1, Version(1, 0, 0), bytes(32), flags=FLAG_ENCRYPTED).pack() + b"x", Result.PACKAGE_TYPE),
    ],
)
def test_what_cannot_be_used_ends_with_its_result(package: bytes, result: Result) -> None:
    with pytest.raises(PackageRejected) as caught:
        open_package(InMemory(package), KINDS)
    assert caught.value.result is result and caught.value.hint == result.advice


@settings(deadline=None, max_examples=200)
@given(st.one_of(st.binary(max_size=300), st.tuples(st.integers(0, len(PACKAGE) - 1), st.integers(1, 255))))
def test_whatever_arrives_is_opened_or_rejected(given: bytes | tuple[int, int]) -> None:
    if isinstance(given, bytes):
        data = PACKAGE[:4] + given
    else:
        at, by = given
        data = PACKAGE[:at] + bytes([PACKAGE[at] ^ by]) + PACKAGE[at + 1 :]
    try:
        firmware = open_package(InMemory(data), KINDS)
    except PackageRejected as error:
        assert error.result in (Result.INTEGRITY, Result.PACKAGE_TYPE)
    else:
        assert b"".join(firmware.image()) == IMAGE, "a header's own fields alone are not covered by the digest"


def test_what_cannot_be_packed_is_said() -> None:
    with pytest.raises(ConfigError):
        pack_image(IMAGE, "next")
    with pytest.raises(ConfigError):
        pack_image(b"", "1.0.0")


def test_every_result_has_words() -> None:
    for number in range(14):
        meaning, advice = explain(number)
        assert len(meaning) > 10 and advice
    assert explain(200) == ("a result that no version of object 5 has", "ask the device's vendor")
