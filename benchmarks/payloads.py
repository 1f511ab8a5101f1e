"""Payloads: how small a delta is, and how fast patches and encrypted blocks are made and taken apart."""

from __future__ import annotations

import shutil
import tempfile
import timeit
from collections.abc import Callable
from pathlib import Path

import bsdiff4
from bsdiff4 import core
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from benchmarks.builds import FEATURE, FIX, compiled
from benchmarks.table import Table
from pdmlab.firmware.image import ImageInfo, build_image
from pdmlab.update.manifest import Manifest, PayloadFormat, PayloadMetadata
from pdmlab.update.payloads.blocks import BLOCK_DATA, sealed_size
from pdmlab.update.payloads.delta import DeltaUnpacker
from pdmlab.update.payloads.encrypted import EncryptedUnpacker, encrypt
from pdmlab.update.payloads.interface import Unpacker
from pdmlab.update.payloads.patch import make_patch

ROUNDS = 5
BLOCK = 512  # B of a CoAP download

INCLUDES = """\
MB/s are of the image. Bare: for making, bsdiff alone, without the frames; for applying, bsdiff4's own patch, which has
both images in memory where ours has two frames; for blocks, cryptography's AESCCM over the same pieces, where ours
cuts them too, and takes the payload's SHA-256. Both in turn, five times; the times are the shortest."""


def bench() -> None:
    """Print a table of deltas and one of encrypted blocks."""
    table = Table(
        "Deltas: ours against bare bsdiff4 (frames of 512 B)",
        {
            "builds": "",
            "image (B)": "d",
            "patch (B)": "d",
            "of the image": ".1%",
            "making MB/s": ".2f",
            "ratio": ".2f",
            "applying MB/s": ".1f",
            "ratio ": ".2f",
        },
        text_width=28,
    )
    for name, (old, new) in pairs().items():
        table.row(name, *delta(old, new))
    show_blocks(build_image(ImageInfo("update"), size=1 << 20))
    print(INCLUDES)


def delta(old: bytes, new: bytes) -> tuple[float, ...]:
    """Return a pair's row: sizes, and the rate and the ratio of making the patch and of applying it."""
    patch, bare = make_patch(old, new), bsdiff4.diff(old, new)
    assert apply(patch, old, len(new)) == bsdiff4.patch(old, bare) == new
    bare_making, making = compared(lambda: core.diff(old, new), lambda: make_patch(old, new))
    bare_applying, applying = compared(lambda: bsdiff4.patch(old, bare), lambda: apply(patch, old, len(new)))
    rates = len(new) / 1e6 / making, making / bare_making, len(new) / 1e6 / applying, applying / bare_applying
    return len(new), len(patch), len(patch) / len(new), *rates


def pairs() -> dict[str, tuple[bytes, bytes]]:
    """Return pairs of builds: really compiled ones where there is a compiler, and virtual images."""
    found = {}
    compiler = shutil.which("gcc")
    if compiler is None:
        print("no gcc here: no compiled builds")
    else:
        with tempfile.TemporaryDirectory() as folder:
            for change in (FIX, FEATURE):
                found[f"compiled, {change}"] = compiled(Path(folder), compiler, change)
    for size in (192 << 10, 1 << 20):
        old, new = (build_image(ImageInfo("update", version), size=size) for version in ("1.0.0", "1.0.1"))
        found[f"virtual, {size >> 10} KiB"] = old, new
    return found


def show_blocks(image: bytes) -> None:
    """Print how fast an image is encrypted and opened, block by block."""
    key, payload = bytes(range(16)), encrypt(image, bytes(range(16)))
    manifest = Manifest(
        bytes(16),
        bytes(16),
        "1.0.1",
        bytes(32),
        sealed_size(len(image)),
        "/fw",
        format=PayloadFormat.ENCRYPTED_RAW,
        metadata=PayloadMetadata(len(image), bytes(32)),
    )
    ccm = AESCCM(key, tag_length=8)
    pieces = [image[at : at + BLOCK_DATA] for at in range(0, len(image), BLOCK_DATA)]
    nonces = [number.to_bytes(8, "little") for number in range(1, len(pieces) + 1)]
    sealed = [ccm.encrypt(nonce, piece, None) for nonce, piece in zip(nonces, pieces, strict=True)]
    assert unpack(EncryptedUnpacker(manifest, key), payload) == image
    rows: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "encrypting": (
            lambda: [ccm.encrypt(nonce, piece, None) for nonce, piece in zip(nonces, pieces, strict=True)],
            lambda: encrypt(image, key),
        ),
        "opening, by 512 B": (
            lambda: [ccm.decrypt(nonce, piece, None) for nonce, piece in zip(nonces, sealed, strict=True)],
            lambda: unpack(EncryptedUnpacker(manifest, key), payload),
        ),
    }
    columns = {"what": "", "MB/s": ".1f", "ratio": ".2f"}
    table = Table("Encrypted blocks of 1 MiB: ours against bare AES-CCM", columns, text_width=20)
    for name, (bare, ours) in rows.items():
        bare_s, ours_s = compared(bare, ours)
        table.row(name, len(image) / 1e6 / ours_s, ours_s / bare_s)


def apply(patch: bytes, old: bytes, size: int) -> bytes:
    """Apply a patch as it is downloaded."""
    return unpack(DeltaUnpacker(lambda at, count: old[at : at + count], size), patch)


def unpack(unpacker: Unpacker, payload: bytes) -> bytes:
    """Feed a payload in blocks; return the image."""
    pieces = [piece for at in range(0, len(payload), BLOCK) for piece in unpacker.feed(payload[at : at + BLOCK])]
    return b"".join([*pieces, *unpacker.finish()])


def compared(bare: Callable[[], object], ours: Callable[[], object]) -> tuple[float, float]:
    """Return the shortest time of each (s), measured in turn."""
    times = [(timeit.timeit(bare, number=1), timeit.timeit(ours, number=1)) for _ in range(ROUNDS)]
    return min(time for time, _ in times), min(time for _, time in times)
