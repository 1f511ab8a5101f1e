"""Patches: what is made from two images makes the second of the first, and nothing else does anything."""

from __future__ import annotations

import hashlib
import tracemalloc

import lz4.block
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdmlab.errors import ManifestRejected, StorageError
from pdmlab.firmware.image import ImageInfo, build_image
from pdmlab.update.payloads.delta import MAX_FRAME, DeltaUnpacker
from pdmlab.update.payloads.patch import make_patch
from pdmlab.update.results import FotaResult
from tests.update.payloads.bspatch import bspatch

OLD = bytes(range(256)) * 8
NEW = OLD[:700] + b"something else" + OLD[900:1500] + OLD[100:300]


def apply(patch: bytes, old: bytes, size: int, step: int = 512) -> bytes:
    """Apply a patch that arrives step bytes at a time."""
    unpacker = DeltaUnpacker(lambda at, count: old[at : at + count], size)
    image = bytearray()
    for at in range(0, len(patch), step):
        for piece in unpacker.feed(patch[at : at + step]):
            image += piece
            assert len(image) <= size
    image += b"".join(unpacker.finish())
    return bytes(image)


def header(size: int = 1000, frame: int = 512, packed: int = 512, magic: bytes = b"PELION/BSDIFF001") -> bytes:
    return magic + b"".join(
        (abs(n) | (n < 0) << 63).to_bytes(8, "little") for n in (size, frame, packed)
    )  # sign and magnitude


def frame(data: bytes) -> bytes:
    packed = lz4.block.compress(data, store_size=False)
    assert len(packed) < 128
    return bytes([len(packed)]) + packed


# -- images ------------------------------------------------------------------------------------------

images = st.binary(min_size=1, max_size=3000)


@st.composite
def builds(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Two images of which the second is pieces of the first, and new ones."""
    old = draw(images)
    pieces = [
        draw(st.binary(max_size=40)) if draw(st.booleans()) else old[draw(st.integers(0, len(old))) :][:900]
        for _ in range(draw(st.integers(1, 6)))
    ]
    return old, b"".join(pieces) or b"\0"


@given(builds(), st.sampled_from([1, 7, 64, 512, 5000]), st.sampled_from([128, 512, 4096]))
@settings(max_examples=150, deadline=None)
def test_any_image_is_made_of_any_other_in_whatever_pieces_the_patch_comes(
    pair: tuple[bytes, bytes], step: int, frame_size: int
) -> None:
    old, new = pair
    patch = make_patch(old, new, frame_size)
    assert apply(patch, old, len(new), step) == new
    assert bspatch(patch, old) == new


def test_builds_of_one_application_need_a_tenth_of_their_size() -> None:
    old, new = (build_image(ImageInfo("update", version)) for version in ("1.0.0", "1.0.1"))
    other = build_image(ImageInfo("idle", "1.0.1"))
    patch = make_patch(old, new)
    assert apply(patch, old, len(new)) == bspatch(patch, old) == new
    assert len(patch) < len(new) / 10
    assert len(make_patch(old, other)) > len(other)  # noise has nothing in common, and frames cost a little


def test_what_cannot_be_packed_still_fits_its_frames() -> None:
    noise = hashlib.shake_256(b"noise").digest(20_000)
    patch = make_patch(b"\0", noise, 128)
    assert apply(patch, b"\0", len(noise)) == bspatch(patch, b"\0") == noise


# -- what is not a patch -----------------------------------------------------------------------------

RECORD = bytes([100, 0, 0]) + frame(bytes(100))

REFUSED: dict[str, tuple[bytes, FotaResult, str]] = {
    "another magic": (header(magic=b"PELION/BSDIFF002"), FotaResult.DELTA, "begins with"),
    "a raw image": (OLD, FotaResult.DELTA, "begins with"),
    "another image's size": (header(size=999), FotaResult.PAYLOAD_CORRUPTED, "999"),
    "a negative size": (header(size=-1000), FotaResult.PAYLOAD_CORRUPTED, "-1000"),
    "frames too large for a board": (header(frame=MAX_FRAME + 1), FotaResult.DELTA, "frames of"),
    "frames smaller than the client takes": (header(frame=63), FotaResult.DELTA, "frames of 63"),
    "frames of a negative size": (header(frame=-512), FotaResult.DELTA, "frames of -512"),
    "more differences than the image has bytes": (header() + b"\xe9\x07\0\0", FotaResult.DELTA, "does not fit"),
    "more new bytes than the image has": (header() + b"\x01\xe8\x07\0", FotaResult.DELTA, "does not fit"),
    "a number without an end": (header() + b"\xff" * 8, FotaResult.DELTA, "more than 7 bytes"),
    "an empty frame": (header() + b"\x64\0\0" + b"\0", FotaResult.DELTA, "packed frame of 0 B"),
    "a frame longer than frames are": (header() + b"\x64\0\0" + b"\x81\x04", FotaResult.DELTA, "packed frame of 513"),
    "a frame that is no LZ4": (header() + b"\x64\0\0" + b"\x03\xff\xff\xff", FotaResult.DELTA, "no LZ4 block"),
    "a frame that unpacks to nothing": (header() + b"\x64\0\0" + b"\x01\0", FotaResult.DELTA, "holds nothing"),
    "a frame that unpacks to more than frames may": (
        header(frame=64) + b"\x64\0\0" + frame(bytes(65)), FotaResult.DELTA, "no LZ4 block",
    ),
    "a frame with more than its record": (header() + b"\x63\0\0" + frame(bytes(100)), FotaResult.DELTA, "99 B left"),
    "reading before the old image": (
        header() + bytes([100, 0, 203, 1]) + frame(bytes(100)) + RECORD, FotaResult.DELTA, "outside",
    ),
    "reading behind the old image": (
        header() + b"\x64\0" + b"\x80\x80\x80\x01" + frame(bytes(100)) + RECORD, FotaResult.DELTA, "outside",
    ),
    "an end in the middle of a header": (header()[:30], FotaResult.DELTA, "ends after 0"),
    "an end in the middle of the image": (header() + RECORD, FotaResult.DELTA, "ends after 100"),
    "nothing": (b"", FotaResult.DELTA, "ends after 0"),
}  # fmt: skip


@pytest.mark.parametrize(("patch", "result", "reason"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("step", [1, 10_000])
def test_what_is_no_patch_is_refused_with_the_stock_clients_result(
    patch: bytes, result: FotaResult, reason: str, step: int
) -> None:
    with pytest.raises(ManifestRejected, match=reason) as caught:
        apply(patch, OLD, 1000, step)
    assert caught.value.result == result


@pytest.mark.parametrize("step", [1, 512, 10_000])
def test_bytes_behind_the_last_record_are_refused(step: int) -> None:
    patch = make_patch(OLD, NEW)
    with pytest.raises(ManifestRejected, match="goes on") as caught:
        apply(patch + b"\0", OLD, len(NEW), step)
    assert caught.value.result == FotaResult.DELTA


def test_a_refused_patch_gives_nothing_more_however_long_it_is_fed() -> None:
    unpacker = DeltaUnpacker(lambda at, count: OLD[at : at + count], len(NEW))
    with pytest.raises(ManifestRejected):
        list(unpacker.feed(b"x" * 40))
    assert not list(unpacker.feed(make_patch(OLD, NEW)))
    with pytest.raises(ManifestRejected):
        list(unpacker.finish())


def test_records_of_nothing_end_with_the_patch() -> None:
    with pytest.raises(ManifestRejected, match="ends after 0"):
        apply(header() + bytes(3) * 20_000, OLD, 1000)


def test_a_running_image_that_cannot_be_read_is_the_patchs_failure() -> None:
    def broken(at: int, count: int) -> bytes:
        raise StorageError("read of 512 B at 0x0 failed")

    unpacker = DeltaUnpacker(broken, len(NEW))
    with pytest.raises(ManifestRejected, match="cannot be read") as caught:
        list(unpacker.feed(make_patch(OLD, NEW)))
    assert caught.value.result == FotaResult.DELTA


changes = st.tuples(st.sampled_from(["set", "insert", "cut"]), st.integers(0, 10_000), st.integers(0, 255))


@given(st.lists(changes, min_size=1, max_size=4))
@settings(max_examples=300, deadline=None)
def test_a_changed_patch_is_refused_or_makes_just_as_many_bytes(made: list[tuple[str, int, int]]) -> None:
    patch = bytearray(make_patch(OLD, NEW))
    for kind, where, byte in made:
        at = where % len(patch)
        if kind == "set":
            patch[at] = byte
        elif kind == "insert":
            patch.insert(at, byte)
        else:
            del patch[at : at + byte % 9]
    try:
        image = apply(bytes(patch), OLD, len(NEW))
    except ManifestRejected as error:
        assert error.result in (FotaResult.DELTA, FotaResult.PAYLOAD_CORRUPTED)
    else:
        assert len(image) == len(NEW)  # and if they are others, their digest is too


def test_a_patch_does_not_go_on_in_the_middle() -> None:
    assert DeltaUnpacker(lambda at, count: b"", 1000).resumes_at(512) is None


def test_a_megabyte_is_made_in_the_memory_of_a_few_frames() -> None:
    old, new = (build_image(ImageInfo("update", version), size=1 << 20) for version in ("1.0.0", "1.0.1"))
    patch, digest = make_patch(old, new), hashlib.sha256()
    blocks = [patch[at : at + 512] for at in range(0, len(patch), 512)]
    unpacker = DeltaUnpacker(lambda at, count: old[at : at + count], len(new))
    list(unpacker.feed(blocks[0]))  # loads the libraries
    unpacker = DeltaUnpacker(lambda at, count: old[at : at + count], len(new))
    tracemalloc.start()
    try:
        for block in blocks:
            for piece in unpacker.feed(block):
                digest.update(piece)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert digest.digest() == hashlib.sha256(new).digest()
    assert peak < 24 * 512, f"{peak} B for frames of 512 B"
