"""Both file systems keep one contract on every device, and survive what a desk does to them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from littlefs import LittleFS

from pdmlab.clock import DeviceClock, PowerLost
from pdmlab.errors import CorruptMedium, NoSpace, NotMounted, StorageError
from pdmlab.storage import (
    FATFileSystem,
    FileSystem,
    HeapBlockDevice,
    LittleFileSystem2,
    Medium,
    SDBlockDevice,
    SlicingBlockDevice,
    SPIFBlockDevice,
    mount_or_format,
)
from pdmlab.storage.blockdevice import BlockDevice
from tests.tools import program


def test_files_and_directories_are_still_there_after_a_new_mount(fs: FileSystem, device: BlockDevice) -> None:
    assert mount_or_format(fs, device)
    fs.mkdir("/logs")
    with fs.open("/logs/a long name.txt", "w") as file:
        assert file.write(b"0123456789" * 500) == 5000
    with fs.open("logs/a long name.txt", "r+") as file:
        file.seek(-5, 2)
        assert file.read() == b"56789"
        file.seek(10)
        file.write(b"ABC")
        assert file.tell() == 13
    with fs.open("/logs/a long name.txt", "a") as file:
        file.write(b"end")
    fs.rename("/logs/a long name.txt", "/logs/b")
    fs.unmount()

    assert not mount_or_format(fs, device)
    assert fs.listdir("/") == ["logs"]
    assert (fs.stat("/logs").kind, fs.stat("/logs/b").size) == ("dir", 5003)
    with fs.open("/logs/b") as file:
        assert file.read(16) == b"0123456789ABC345"
        assert file.read().endswith(b"89end")
    with fs.open("/logs/b", "r+") as file:
        file.truncate(20)
        assert file.size() == 20
    fs.remove("/logs/b")
    fs.remove("/logs")
    assert fs.listdir() == []
    fs.unmount()


def test_what_is_not_there_is_named_with_its_code(fs: FileSystem) -> None:
    with pytest.raises(NotMounted, match="fs is not mounted"):
        fs.open("/a")
    fs.reformat(HeapBlockDevice(1 << 20))
    with pytest.raises(StorageError, match=r"/a \(ENOENT, -2\)"):
        fs.open("/a")
    with pytest.raises(StorageError, match="mode"):
        fs.open("/a", "q")
    fs.mkdir("/d")
    with pytest.raises(StorageError, match="EEXIST, -17"):
        fs.mkdir("/d")
    fs.unmount()


def test_a_blank_device_is_corrupt_and_construction_fails_softly() -> None:
    for kind in (LittleFileSystem2, FATFileSystem):
        device = HeapBlockDevice(1 << 20)
        with pytest.raises(CorruptMedium):
            kind("fs").mount(device)
        fs = kind("fs", device)
        assert not fs.mounted
        fs.reformat(device)
        fs.unmount()
        assert kind("fs", device).mounted


def test_a_full_volume_says_so_and_has_room_again(fs: FileSystem) -> None:
    fs.reformat(HeapBlockDevice(128 << 10))
    free = fs.statvfs().free_blocks
    with pytest.raises(NoSpace, match="ENOSPC, -28"), fs.open("/big", "w") as file:
        while True:
            file.write(bytes(4096))
    # littlefs drops what a failed file had not yet committed; FAT keeps what fitted.
    assert (fs.statvfs().free_blocks < free) == isinstance(fs, FATFileSystem)
    fs.remove("/big")
    assert fs.statvfs().free_blocks >= free - 1
    fs.unmount()


def test_a_file_outlives_neither_close_nor_unmount(fs: FileSystem) -> None:
    device = HeapBlockDevice(1 << 20)
    fs.reformat(device)
    file = fs.open("/a", "w")
    file.close()
    file.close()
    with pytest.raises(StorageError, match="EBADF"):
        file.write(b"x")
    other = fs.open("/b", "w")
    fs.unmount()
    fs.mount(device)
    with pytest.raises(StorageError, match="EBADF"):
        other.write(b"x")
    fs.unmount()


def test_a_card_pulled_in_mid_write_and_put_back_is_usable_again(fs: FileSystem) -> None:
    card = SDBlockDevice(Medium(1 << 20, erase_value=0))
    fs.reformat(card)
    with fs.open("/kept", "w") as file:
        file.write(b"safe" * 400)
    with pytest.raises(StorageError, match="NO_DEVICE, -5005"), fs.open("/lost", "w") as file:
        file.write(b"x" * 2000)
        card.medium.seated = False
        file.write(b"x" * 2000)
    card.medium.seated = True
    fs.unmount()
    fs.mount(card)  # which initialises it, as it must be on a board
    assert fs.open("/kept").read() == b"safe" * 400
    with pytest.raises(StorageError, match="EBADF"):
        file.read()
    fs.unmount()


def test_a_card_pulled_in_mid_read_never_reads_as_zeros(fs: FileSystem) -> None:
    card = SDBlockDevice(Medium(1 << 20, erase_value=0))
    fs.reformat(card)
    with fs.open("/kept", "w") as file:
        file.write(b"safe" * 2000)
    file = fs.open("/kept")
    assert file.read(4) == b"safe"
    card.medium.seated = False
    with pytest.raises(StorageError, match="-5005"):
        file.read(6000)
    with pytest.raises(StorageError, match="-5005"):
        fs.listdir()
    card.medium.seated = True
    fs.unmount()
    fs.mount(card)
    assert fs.open("/kept").read() == b"safe" * 2000
    fs.unmount()


def test_power_lost_in_a_callback_comes_out_of_the_call(fs: FileSystem) -> None:
    medium = Medium(1 << 20)
    chip = SPIFBlockDevice(medium)
    fs.reformat(chip)
    with fs.open("/kept", "w") as file:
        file.write(b"before")
    with pytest.raises(PowerLost), fs.open("/lost", "w") as file:
        medium.powered = False
        file.write(bytes(20_000))
        file.sync()
    medium.powered = True
    again = type(fs)("again", SPIFBlockDevice(medium))
    assert again.open("/kept").read() == b"before"
    again.unmount()


def test_four_threads_share_one_volume(fs: FileSystem) -> None:
    def work(n: int) -> None:
        for round_ in range(5):
            with fs.open(f"/{n}", "w") as file:
                for _ in range(8):
                    file.write(bytes([65 + n]) * 300)
            assert fs.open(f"/{n}").read() == bytes([65 + n]) * 2400, round_

    with DeviceClock() as clock:

        def main() -> int:
            fs.reformat(SDBlockDevice(Medium(4 << 20, erase_value=0), clock=clock))
            for thread in [clock.spawn(work, n) for n in range(4)]:
                thread.join()
            names = sorted(fs.listdir())
            fs.unmount()
            assert names == ["0", "1", "2", "3"]
            return clock.now()

        assert clock.call(main) > 1_000_000_000


def test_a_thread_killed_inside_c_leaves_the_volume_to_the_next_start(fs: FileSystem) -> None:
    medium = Medium(1 << 20)
    with DeviceClock() as clock:

        def prepare() -> None:
            fs.reformat(SPIFBlockDevice(medium, clock=clock))
            with fs.open("/kept", "w") as file:
                file.write(b"k" * 900)

        def write_on() -> None:
            with fs.open("/lost", "w") as file:
                while True:
                    file.write(b"x" * 700)
                    file.sync()

        def cut() -> None:
            thread = clock.spawn(write_on)
            clock.sleep(1_234_567_890)
            clock.loop.call_soon(thread.kill)
            with pytest.raises(PowerLost):
                thread.join()

        clock.call(prepare)
        clock.call(cut)
    after = type(fs)("after", SPIFBlockDevice(medium))
    assert after.open("/kept").read() == b"k" * 900
    after.unmount()


def test_ten_volumes_of_boards_that_were_switched_off_do_not_use_fat_up() -> None:
    for _ in range(25):
        abandoned = FATFileSystem("fs")
        abandoned.reformat(HeapBlockDevice(128 << 10))
        abandoned.open("/open", "w").write(b"x")


@pytest.mark.debian
def test_fsck_and_mtools_accept_a_fat_image(tmp_path: Path) -> None:
    fsck, mtype = program("fsck.fat"), program("mtype")
    path = tmp_path / "sd.bin"
    medium = Medium(16 << 20, erase_value=0, path=path)
    fs = FATFileSystem("fs")
    fs.reformat(SlicingBlockDevice(SDBlockDevice(medium), 0, 12 << 20))
    fs.mkdir("/etc")
    with fs.open("/etc/a rather long name.conf", "w") as file:
        file.write(b"one=1\n" * 3000)
    fs.unmount()
    medium.close()
    check = subprocess.run([fsck, "-n", "-v", path], capture_output=True, text=True, timeout=30)
    assert check.returncode == 0, check.stdout
    text = subprocess.run(
        [mtype, "-i", path, "::etc/a rather long name.conf"], capture_output=True, check=True, timeout=30
    )
    assert text.stdout == b"one=1\n" * 3000


@pytest.mark.debian
def test_a_volume_made_elsewhere_is_mounted(tmp_path: Path) -> None:
    mkfs, mcopy = program("mkfs.fat"), program("mcopy")
    path = tmp_path / "card.img"
    path.write_bytes(bytes(64 << 20))
    (tmp_path / "hello.txt").write_bytes(b"from the host")
    subprocess.run([mkfs, "-F", "32", path], check=True, capture_output=True, timeout=30)
    subprocess.run([mcopy, "-i", path, tmp_path / "hello.txt", "::hello.txt"], check=True, timeout=30)
    medium = Medium(64 << 20, erase_value=0, path=path)
    fs = FATFileSystem("fs", SDBlockDevice(medium))
    assert fs.open("/hello.txt").read() == b"from the host"
    assert fs.statvfs().free_blocks > 100_000
    fs.unmount()
    medium.close()


def test_plain_littlefs_mounts_the_image(tmp_path: Path) -> None:
    path = tmp_path / "spif.bin"
    medium = Medium(1 << 20, path=path)
    fs = LittleFileSystem2("fs")
    fs.reformat(SPIFBlockDevice(medium))
    with fs.open("/a.txt", "w") as file:
        file.write(b"from the board" * 100)
    fs.unmount()
    medium.close()
    plain = LittleFS(block_size=4096, block_count=256, mount=False)
    plain.context.buffer = bytearray(path.read_bytes())
    plain.mount()
    with plain.open("/a.txt", "rb") as file:
        assert file.read() == b"from the board" * 100


def test_the_same_work_makes_the_same_fat_image() -> None:
    def image() -> bytes:
        medium = Medium(1 << 20, erase_value=0)
        fs = FATFileSystem("fs")
        fs.reformat(SDBlockDevice(medium))
        with fs.open("/a", "w") as file:
            file.write(b"x")
        fs.unmount()
        return medium.peek(0, medium.size)

    assert image() == image()
