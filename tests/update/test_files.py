"""Files are read with a bound, and what is secret is its owner's alone from the first byte on."""

from __future__ import annotations

import os
import stat
import sys
import threading
from pathlib import Path

import pytest

from pdmlab.errors import ConfigError
from pdmlab.update.files import read_file, read_text, write_file, write_secret

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither modes nor /dev")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_read_up_to_its_bound_and_no_further(tmp_path: Path) -> None:
    file = tmp_path / "fw.bin"
    for size in (0, 99, 100):
        file.write_bytes(bytes(size))
        assert read_file(file, 100, "an image") == bytes(size)
    file.write_bytes(bytes(101))
    with pytest.raises(ConfigError, match=r"fw.bin has more than 100 B\nhint: name a file that is an image"):
        read_file(file, 100, "an image")


@posix
def test_a_file_without_an_end_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"/dev/zero has more than 1,000 B"):
        read_file("/dev/zero", 1000, "a manifest")
    with pytest.raises(ConfigError, match=r"/dev/zero has more than 2,000 B"):
        read_file("/dev/zero", 1000, "a manifest", longer=(b"\0", 2000))


def test_what_begins_as_a_longer_kind_does_may_be_longer(tmp_path: Path) -> None:
    file = tmp_path / "envelope"
    for begins, size, taken in ((b"S", 150, True), (b"S", 151, False), (b"x", 101, False)):
        data = begins + bytes(size - 1)
        file.write_bytes(data)
        if taken:
            assert read_file(file, 100, "a manifest", longer=(b"S", 150)) == data
            continue
        with pytest.raises(ConfigError, match="has more than"):
            read_file(file, 100, "a manifest", longer=(b"S", 150))


def test_text_has_whatever_line_ends_and_is_utf_8(tmp_path: Path) -> None:
    file = tmp_path / "a.c"
    file.write_bytes("a\r\nb\rc\nä".encode())
    assert read_text(file, 100, "C source") == "a\nb\nc\nä"
    file.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"a.c cannot be read.*utf-8"):
        read_text(file, 100, "C source")
    with pytest.raises(ConfigError, match="none cannot be read: No such file"):
        read_text(tmp_path / "none", 100, "C source")


@posix
def test_a_secret_takes_the_place_of_a_file_that_others_may_read(tmp_path: Path) -> None:
    file, link, new = tmp_path / "flash.bin", tmp_path / "link.bin", tmp_path / "new.bin"
    file.write_bytes(b"old")
    file.chmod(0o644)
    link.symlink_to(file)
    with open(file, "rb") as reader:  # somebody had it open before
        write_secret(link, b"secret")
        assert reader.read() == b"old"
    write_secret(new, b"secret")
    assert link.is_symlink() and file.read_bytes() == new.read_bytes() == b"secret"
    assert mode(file) == mode(new) == 0o600
    assert sorted(tmp_path.iterdir()) == [file, link, new]


@posix
def test_what_is_no_regular_file_gets_the_bytes_and_stays_what_it_is(tmp_path: Path) -> None:
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    write_secret(pipe, b"secret")
    reader.join(20)
    assert got == [b"secret"] and pipe.is_fifo()


def test_a_folder_that_is_not_there_is_made_for_no_secret(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_secret(tmp_path / "none" / "flash.bin", b"secret")
    write_file(tmp_path / "some" / "fw.bin", b"x", 0o644)
    assert (tmp_path / "some" / "fw.bin").read_bytes() == b"x"
