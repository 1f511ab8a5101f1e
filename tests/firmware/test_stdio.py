"""fwrite() and fread() reach the file as newlib lets them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pdmlab.clock import DeviceClock, WallClock
from pdmlab.firmware.stdio import BUFSIZ, QUANTUM, CFile
from pdmlab.storage import HeapBlockDevice, LittleFileSystem2
from pdmlab.storage.file import File
from pdmlab.storage.filesystem import FileSystem


class Recorded(LittleFileSystem2):
    """Notes the sizes of the writes and reads that reach its files."""

    def __init__(self) -> None:
        super().__init__("fs")
        self.sizes: list[int] = []

    def open(self, path: str, mode: str = "r") -> File:
        file = super().open(path, mode)
        write, read = file.write, file.read
        file.write = lambda data: (self.sizes.append(len(data)), write(data))[1]  # type: ignore[method-assign]
        file.read = lambda size=-1: (self.sizes.append(size), read(size))[1]  # type: ignore[method-assign]
        return file


def recorded() -> Recorded:
    fs = Recorded()
    fs.reformat(HeapBlockDevice(1 << 20))
    return fs


def write(fs: FileSystem, *sizes: int) -> None:
    with CFile(fs, "/f", "w", WallClock()) as file:
        for size in sizes:
            file.write(b"x" * size)


def test_small_writes_are_gathered_and_large_ones_pass_by() -> None:
    fs = recorded()
    write(fs, *[64] * 17)
    assert fs.sizes == [BUFSIZ, 64]
    fs.sizes.clear()
    write(fs, 5000)
    assert fs.sizes == [4096, 904]
    fs.sizes.clear()
    write(fs, 1000, 3000)
    assert fs.sizes == [1024, 2048, 928]


def test_reading_refills_the_buffer_whatever_is_asked_for() -> None:
    fs = recorded()
    write(fs, 4000)
    fs.sizes.clear()
    with CFile(fs, "/f", "r", WallClock()) as file:
        assert len(file.read(1)) == 1
        assert len(file.read(3000)) == 3000
        assert len(file.read(3000)) == 999
        assert file.read(1) == b""
    assert set(fs.sizes) == {BUFSIZ}


@given(st.lists(st.integers(0, 5000), max_size=12), st.lists(st.integers(1, 5000), max_size=12))
def test_what_is_read_is_what_was_written(writes: list[int], reads: list[int]) -> None:
    fs = LittleFileSystem2("fs")
    fs.reformat(HeapBlockDevice(1 << 18))
    data = bytes(n % 251 for n in range(sum(writes)))
    start = 0
    with CFile(fs, "/f", "w", WallClock()) as file:
        for size in writes:
            assert file.write(data[start : start + size]) == size
            start += size
    start = 0
    with CFile(fs, "/f", "r", WallClock()) as file:
        for size in reads:
            assert file.read(size) == data[start : start + size]
            start += size


def test_a_call_that_stays_in_the_buffer_costs_device_time_too() -> None:
    with DeviceClock() as clock:
        fs = LittleFileSystem2("fs")

        def work() -> int:
            fs.reformat(HeapBlockDevice(1 << 20, clock=clock))
            file = CFile(fs, "/f", "w", clock)
            before = clock.now()
            for _ in range(100):
                file.write(b"x")
            assert file.now() - before == 100 * (1_500 + 8)
            return file.now() - clock.now()

        assert clock.call(work) < QUANTUM


def test_sync_brings_what_is_gathered_to_the_device() -> None:
    device = HeapBlockDevice(1 << 20)
    fs = LittleFileSystem2("fs")
    fs.reformat(device)
    file = CFile(fs, "/f", "w", WallClock())
    file.write(b"kept")
    file.sync()
    assert LittleFileSystem2("again", device).open("/f").read() == b"kept"
