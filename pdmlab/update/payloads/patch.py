"""Patches: the delta payload that makes one image out of another, and the file that describes it.

    delta = Delta.between(old, new)
    delta.write("fw.delta")  # and fw.yaml, which manifest-dev-tool reads beside it

The differences are bsdiff's (in C, by bsdiff4); they are packed as `pdmlab.update.payloads.delta` describes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pdmlab.errors import ConfigError
from pdmlab.update.files import MAX_IMAGE, MAX_TEXT, read_file, read_text
from pdmlab.update.manifest import PayloadMetadata
from pdmlab.update.payloads.delta import MAGIC, MAX_FRAME
from pdmlab.update.version import is_version

FRAME_SIZE = 512
"""Bytes of a frame unless told, as manifest-delta-tool's: at most what one block of a CoAP download has."""

VERSION = "version"
"""The key of the new image's version, which manifest-delta-tool does not write."""

MIN_FRAME_SIZE = 128  # manifest-delta-tool takes no less


@dataclass(frozen=True)
class Delta:
    """A patch, and the images it leads from and to: what a manifest says of it beside its own size and digest.

    version: the new image's, a.b.c; None where that is not known, as of patches by manifest-delta-tool
    """

    patch: bytes = field(repr=False)
    metadata: PayloadMetadata
    version: str | None = None

    @classmethod
    def between(cls, old: bytes, new: bytes, *, frame_size: int = FRAME_SIZE, version: str | None = None) -> Delta:
        """Make the patch from old to new; frame_size (B, 128 to 16384) is what a board unpacks at a time.

        Raises:
            ConfigError: an image is empty, or the frame size is outside its range.
        """
        precursor = hashlib.sha256(old).digest()
        metadata = PayloadMetadata(len(new), hashlib.sha256(new).digest(), precursor)
        return cls(make_patch(old, new, frame_size), metadata, version)

    @classmethod
    def read(cls, path: Path | str) -> Delta:
        """Read a patch and the .yaml beside it, which manifest-delta-tool or `write` has made.

        Raises:
            ConfigError: one of the files cannot be read, or is something else.
        """
        import yaml

        patch = Path(path)
        beside = patch.with_suffix(".yaml")
        try:
            fields = yaml.safe_load(read_text(beside, MAX_TEXT, "a description of a patch"))
            metadata = PayloadMetadata(
                int(fields["installed-size"]), _digest(fields["installed-digest"]), _digest(fields["precursor-digest"])
            )
            version = fields.get(VERSION)
            if version is not None and not is_version(version):
                raise ValueError(f"{str(version)[:40]!r} is no version")
            return cls(read_file(patch, MAX_IMAGE, "a patch"), metadata, version)
        except (ConfigError, ValueError, LookupError, TypeError, yaml.YAMLError, RecursionError) as error:
            why = error.message if isinstance(error, ConfigError) else error
            raise ConfigError(
                f"{patch} and {beside.name} are no delta payload: {why}",
                hint="make them with manifest-delta-tool -c old.bin -n new.bin -o fw.delta, or with Delta.between",
            ) from error

    def write(self, path: Path | str) -> Path:
        """Write the patch to path and what describes it to the .yaml beside it; return the latter's path."""
        import yaml

        patch = Path(path)
        beside = patch.with_suffix(".yaml")
        assert self.metadata.precursor_digest is not None
        # manifest-delta-tool writes the base64 as bytes, which YAML encodes in base64 once more.
        fields: dict[str, bytes | int | str] = {
            "installed-digest": base64.b64encode(self.metadata.installed_digest),
            "installed-size": self.metadata.installed_size,
            "precursor-digest": base64.b64encode(self.metadata.precursor_digest),
        }
        if self.version is not None:
            fields[VERSION] = self.version  # the last of the file's keys, and none that the stock tool looks at
        patch.write_bytes(self.patch)
        beside.write_text(yaml.dump(fields), encoding="utf-8")
        return beside

    @property
    def ratio(self) -> float:
        """The patch's size over the image's."""
        return len(self.patch) / self.metadata.installed_size

    def __repr__(self) -> str:
        return f"<Delta of {len(self.patch)} B for an image of {self.metadata.installed_size} B ({self.ratio:.1%})>"

    def _repr_html_(self) -> str:
        assert self.metadata.precursor_digest is not None
        rows = {
            "patch": f"{len(self.patch)} B, {self.ratio:.1%} of the image",
            "image": f"{self.metadata.installed_size} B",
            "image SHA-256": self.metadata.installed_digest.hex(),
            "applies to SHA-256": self.metadata.precursor_digest.hex(),
        }
        body = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in rows.items())
        return f"<table><caption>Delta payload</caption>{body}</table>"


def make_patch(old: bytes, new: bytes, frame_size: int = FRAME_SIZE) -> bytes:
    """Return the patch from old to new."""
    from bsdiff4 import core

    if not old or not new:
        raise ConfigError("a patch leads from one image to another; one of these is empty")
    if not MIN_FRAME_SIZE <= frame_size <= MAX_FRAME:
        raise ConfigError(f"frames of {frame_size} B are outside {MIN_FRAME_SIZE} to {MAX_FRAME} B")
    control, differences, extra = core.diff(old, new)
    records, largest, changed_at, fresh_at = bytearray(), 0, 0, 0
    for at in range(0, len(control), 24):
        changed, fresh, seek = (core.decode_int64(control[at + n : at + n + 8]) for n in (0, 8, 16))
        records += _varint(changed) + _varint(fresh) + _varint(abs(seek) << 1 | (seek < 0))
        for data in (differences[changed_at : changed_at + changed], extra[fresh_at : fresh_at + fresh]):
            for frame in _frames(data, frame_size):
                largest = max(largest, len(frame))
                records += _varint(len(frame)) + frame
        changed_at, fresh_at = changed_at + changed, fresh_at + fresh
    return MAGIC + struct.pack("<QQQ", len(new), frame_size, largest) + records


def _frames(data: bytes, frame_size: int) -> Iterator[bytes]:
    """Pack data in LZ4 blocks of at most frame_size bytes, packed as well as unpacked."""
    import lz4.block

    at = 0
    while at < len(data):
        size = min(frame_size, len(data) - at)
        frame = bytes(lz4.block.compress(data[at : at + size], store_size=False))
        while len(frame) > frame_size:  # what cannot be packed grows by a few bytes
            size -= len(frame) - frame_size
            frame = bytes(lz4.block.compress(data[at : at + size], store_size=False))
        yield frame
        at += size


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _digest(text: bytes | str) -> bytes:
    digest = base64.b64decode(text, validate=True)
    if len(digest) != 32:
        raise binascii.Error(f"a digest of {len(digest)} B")
    return digest
