"""Images of builds: alike where builds of one application are alike, and never by accident."""

from __future__ import annotations

import pytest

from pdmlab.firmware.body import code
from pdmlab.firmware.image import ImageInfo, build_image, read_image
from pdmlab.update.signed_version import version_in
from pdmlab.update.version import Version


def alike(one: bytes, other: bytes) -> float:
    """The part of the 16-byte stretches of one image that another has, anywhere."""
    stretches = {other[at : at + 16] for at in range(len(other) - 15)}
    mine = [one[at : at + 16] for at in range(0, len(one), 16)]
    return sum(stretch in stretches for stretch in mine) / len(mine)


def test_the_same_names_give_the_same_bytes_and_the_size_asked_for() -> None:
    for size in (1, 64, 8192, 200_000):
        assert len(code("update", "1.0.0", "0", size)) == size
    assert code("update", "1.0.0", "7", 8192) == code("update", "1.0.0", "7", 8192)


@pytest.mark.parametrize(("version", "build"), [("1.0.1", "0"), ("1.0.0", "1"), ("2.0.0", "9")])
def test_builds_of_one_application_share_most_of_their_code_but_not_its_place(version: str, build: str) -> None:
    old = build_image(ImageInfo("update", "1.0.0", "0"))
    new = build_image(ImageInfo("update", version, build))
    assert 0.6 < alike(new, old) < 0.95
    tail = len(old) // 2
    assert old[tail:] != new[tail:]  # what is in front has grown
    assert read_image(new) == ImageInfo("update", version, build)


def test_two_applications_share_nothing() -> None:
    assert alike(build_image(ImageInfo("idle")), build_image(ImageInfo("update"))) < 0.01


def test_an_image_says_which_patches_it_can_apply() -> None:
    assert build_image(ImageInfo("update"))[0x1F0:0x200] == b"PELION/BSDIFF001"


@pytest.mark.parametrize(("version", "number"), [("1.0.0", "1.0.0"), ("12.345.678", "12.345.678"), ("next", "0.0.0")])
def test_an_image_says_its_version_where_bootloaders_look(version: str, number: str) -> None:
    word = build_image(ImageInfo("update", version))[0x1E8:0x1F0]
    assert word == Version.parse(number).number.to_bytes(8, "little")
    assert str(version_in(build_image(ImageInfo("update", version)))) == number
