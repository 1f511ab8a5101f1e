"""Where a medium's bytes lie: the same in memory and in a file, and a disk that fills up is named."""

from __future__ import annotations

import errno
import io
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdmlab.errors import BoardError, StorageError
from pdmlab.storage import Medium
from pdmlab.storage.image import CHUNK, FileImage, MemoryImage

SIZE = 3 * CHUNK + 100
PIECES = st.lists(
    st.tuples(st.integers(0, SIZE), st.one_of(st.binary(max_size=300), st.integers(0, 2 * CHUNK).map(bytes))),
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(PIECES, st.sampled_from([0x00, 0xFF]))
def test_memory_and_file_hold_the_same_bytes(pieces: list[tuple[int, bytes]], blank: int) -> None:
    model = bytearray([blank]) * SIZE
    with tempfile.TemporaryDirectory() as folder:
        images = [MemoryImage(SIZE, blank), FileImage(Path(folder) / "part.bin", SIZE, blank)]
        for offset, data in pieces:
            data = data[: SIZE - offset]
            for image in images:
                image.write(offset, data)
            model[offset : offset + len(data)] = data
        for image in images:
            assert image.read(0, SIZE) == model
            for offset, data in pieces:
                n = min(len(data), SIZE - offset)
                assert image.read(offset, n) == model[offset : offset + n]
            image.close()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["program", "erase", "read", "poke"]),
            st.integers(0, SIZE),
            st.binary(min_size=1, max_size=300),
        ),
        max_size=40,
    ),
    st.sampled_from([0x00, 0xFF]),
)
def test_flash_clears_bits_and_a_card_overwrites(operations: list[tuple[str, int, bytes]], erase_value: int) -> None:
    medium, model = Medium(SIZE, erase_value=erase_value), bytearray([erase_value]) * SIZE
    for what, offset, data in operations:
        data = data[: SIZE - offset]
        end = offset + len(data)
        if what == "program":
            medium.program(offset, data)
            old = model[offset:end]
            model[offset:end] = data if erase_value == 0 else bytes(a & b for a, b in zip(old, data, strict=True))
        elif what == "erase":
            medium.erase(offset, len(data))
            model[offset:end] = bytes([erase_value]) * len(data)
        elif what == "poke":
            medium.poke(offset, data)
            model[offset:end] = data
        else:
            assert medium.read(offset, len(data)) == model[offset:end]
    assert medium.peek(0, SIZE) == model


@pytest.mark.parametrize(("offset", "size"), [(-1, 1), (0, SIZE + 1), (SIZE, 1), (SIZE - 1, 2), (5, -1)])
def test_nothing_lies_outside_a_medium(offset: int, size: int) -> None:
    medium = Medium(SIZE)
    medium.poke(0, bytes(SIZE))  # all chunks are there
    for work in (medium.read, medium.peek):
        with pytest.raises(StorageError, match="are not on a medium of"):
            work(offset, size)
    if size > 0:
        for write in (medium.program, medium.poke):
            with pytest.raises(StorageError, match="are not on a medium of"):
                write(offset, bytes(size))


def test_a_large_part_takes_no_room_until_it_is_written() -> None:
    parts = [Medium(64 << 20) for _ in range(20)]
    for part in parts:
        part.program(0, b"x")
        assert part.peek((64 << 20) - 4, 4) == b"\xff" * 4


# A limit on the size of files: the kernel writes what fits, as on a disk that fills up, and refuses the rest.
FULL = """
import resource, sys
from pathlib import Path
from pdmlab.errors import BoardError
from pdmlab.storage import FATFileSystem, Medium, SDBlockDevice
path = Path(sys.argv[1])
medium = Medium(1 << 20, erase_value=0, path=path)
fs = FATFileSystem("fs")
fs.reformat(SDBlockDevice(medium))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    with fs.open("/a", "w") as file:
        for _ in range(100):
            file.write(bytes(range(256)) * 8)
except BoardError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
with fs.open("/b", "w") as file:
    file.write(b"room again")
print(fs.open("/b").read())
try:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    Medium(1 << 20, path=path.with_name("other.bin"))
except BoardError as error:
    print(error)
print(path.with_name("other.bin").exists())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
def test_a_disk_that_fills_up_in_a_write_is_named_and_nothing_is_short_in_silence(tmp_path: Path) -> None:
    path = tmp_path / "sd.bin"
    done = subprocess.run([sys.executable, "-c", FULL, path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"{path} cannot be written: File too large; 160 of 512 B at 0x18600 had room", lines
    assert lines[1] == "hint: make room on that disk, or set PDMLAB_STATE"
    assert lines[2] == "b'room again'"
    assert lines[3] == f"{path.with_name('other.bin')} cannot be written: File too large: a blank part takes 1048576 B"
    assert lines[5] == "False"


def test_a_write_that_the_system_does_in_pieces_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Bit(io.FileIO):
        def write(self, data: bytes) -> int:  # type: ignore[override]
            return super().write(data[:100])

    image = FileImage(tmp_path / "part.bin", 4096, 0)
    image.close()
    with Bit(image.path, "r+") as file:
        monkeypatch.setattr(image, "_file", file)
        image.write(7, bytes(range(256)) * 4)
        assert image.read(7, 1024) == bytes(range(256)) * 4

    class Gone(io.FileIO):
        def write(self, data: object) -> int:
            raise OSError(errno.EIO, "Input/output error")

    with Gone(image.path, "r+") as file:
        monkeypatch.setattr(image, "_file", file)
        with pytest.raises(BoardError, match=r"part.bin cannot be written: Input/output error; 0 of 1 B at 0x0"):
            image.write(0, b"x")
        monkeypatch.undo()
