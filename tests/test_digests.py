"""The same seed gives the same digest on every interpreter, and another seed other jitter.

`digests.json` has what these sweeps gave when it was made. Whoever changes a part, a driver or a bearer makes it
again, and says so: `python -m tests.test_digests`.
"""

from __future__ import annotations

import json
import tempfile
from importlib import metadata
from pathlib import Path

import pytest

from pdmlab import experiment, measurements
from pdmlab.sim.board import VirtualBoard
from tests.tools import unavailable

GOLDEN = Path(__file__).with_name("digests.json")
LIBRARIES = ("littlefs-python", "fatfs-ng")
"""With other versions, files are written with other operations."""
SEEDS = (1, 2)

FILES = {"buffer_B": [64, 4096], "sync_every_B": [None, 1024], "file_B": [16384]}
SWEEPS = {
    "an SD card, FAT and littlefs": (
        measurements.file_transfer,
        {"part": ["SDHC"], "file_system": ["FAT", "LFS"], "bus_Hz": [1_000_000, 25_000_000], **FILES},
    ),
    "NOR flash on two buses": (
        measurements.file_transfer,
        {"part": ["MX25R6435F", "W25Q64JV"], "bus": ["SPI", "QSPI"], "cache_size_B": [64, 512], **FILES},
    ),
    "DataFlash and a microcontroller's own flash": (
        measurements.file_transfer,
        {"part": ["AT45DB321D", "STM32F429ZI", "K64F"], "file_system": ["FAT", "LFS"], **FILES},
    ),
    "three threads on a half-full volume": (
        measurements.file_transfer,
        {"part": ["W25Q64JV"], "threads": [3], "fill_percent": [50], "mode": ["append", "overwrite"], **FILES},
    ),
    "a logger": (
        measurements.log_stream,
        {"rate_Bps": [20_000], "write_B": [64, 512], "sync_every_B": [4096], "ring_B": [None, 2048]},
    ),
    "downloads": (
        measurements.http_download,
        {"bearer": ["ethernet", "wifi"], "round_trip_ms": [20], "receive_buffer_B": [1024, 8192]},
    ),
}


def swept(name: str, seed: int, folder: Path) -> experiment.Run:
    measure, factors = SWEEPS[name]
    with VirtualBoard("K64F", id="digests", memory=True, power=False) as board:
        return experiment.sweep(
            measure, factors, experiment="digests", board=board, seed=seed, data=folder, progress=False
        )


@pytest.mark.parametrize("name", SWEEPS)
def test_a_seed_means_the_same_on_every_interpreter(name, tmp_path):
    golden = json.loads(GOLDEN.read_text())
    for library in LIBRARIES:
        there, here = golden["versions"][library], metadata.version(library)
        if there != here:
            unavailable(f"made with {library} {there}, here is {here}; python -m tests.test_digests makes them anew")
    found = [swept(name, seed, tmp_path).digest for seed in SEEDS]
    assert found == golden["digests"][name], "if a part, driver or bearer was changed: python -m tests.test_digests"


@pytest.mark.parametrize("name", SWEEPS)
def test_another_seed_has_other_times_and_the_same_operations(name, tmp_path):
    one, other = (swept(name, seed, tmp_path).frame for seed in SEEDS)
    times = [column for column in one if column.endswith(("_s", "_ms", "_kBps")) and column not in SWEEPS[name][1]]
    assert not one[times].equals(other[times])
    same = [column for column in one if column in ("reads", "programs", "erases", "programmed_B", "bytes")]
    if "threads" not in SWEEPS[name][1]:  # whose turn it is decides which block a file gets
        assert one[same].equals(other[same])


def test_every_sweep_has_its_digests_which_differ_by_seed():
    digests = json.loads(GOLDEN.read_text())["digests"]
    assert list(digests) == list(SWEEPS)
    assert len({digest for pair in digests.values() for digest in pair}) == len(SWEEPS) * len(SEEDS)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        digests = {name: [swept(name, seed, Path(folder)).digest for seed in SEEDS] for name in SWEEPS}
    versions = {library: metadata.version(library) for library in LIBRARIES}
    GOLDEN.write_text(json.dumps({"versions": versions, "digests": digests}, indent=2) + "\n")
    print(GOLDEN.read_text(), end="")
