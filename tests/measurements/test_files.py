"""What is measured of files: one row a direction, and a logger that loses nothing or says how much."""

import json

import pytest

from pdmlab import experiment, measurements
from pdmlab.errors import ConfigError, NotMeasurable
from pdmlab.measurements import memory
from pdmlab.measurements.volumes import make_volume
from pdmlab.sim.board import VirtualBoard
from pdmlab.storage import part


@pytest.fixture(scope="module")
def board():
    with VirtualBoard("K64F", id="files", memory=True, power=False) as board:
        yield board


def scratch(board, measure, *args, **kwargs):
    with board.scratch(seed=1) as fresh:
        return measure(fresh, *args, **kwargs)


def test_a_whole_sector_a_call_costs_a_directory_entry_each(board):
    slow, _ = scratch(board, measurements.file_transfer, buffer_B=512, bus_Hz=4_000_000, sync_every_B=65536)
    fast, _ = scratch(board, measurements.file_transfer, buffer_B=256, bus_Hz=4_000_000, sync_every_B=65536)
    assert slow["programs"] > 2 * fast["programs"] * 0.95
    assert slow["throughput_kBps"] < 0.6 * fast["throughput_kBps"]
    assert slow["file_system"] == "FAT" and slow["file_system_version"].startswith("FatFs")


def test_a_row_for_writing_and_one_for_reading_the_same_twice(board):
    rows = scratch(board, measurements.file_transfer, buffer_B=4096, bus_Hz=1_000_000, sync_every_B=4096)
    assert [row["operation"] for row in rows] == ["write", "read"]
    assert rows == scratch(board, measurements.file_transfer, buffer_B=4096, bus_Hz=1_000_000, sync_every_B=4096)


def test_a_chip_is_measured_with_littlefs():
    with VirtualBoard("DISCO_F413ZH", id="chip", memory=True, power=False) as board:
        write, _ = scratch(board, measurements.file_transfer, buffer_B=1024, bus_Hz=40_000_000, sync_every_B=65536)
    assert write["file_system"] == "LFS" and write["bus"] == "QSPI" and write["erases"] > 0


def test_the_ring_that_was_needed_loses_nothing_and_a_smaller_one_does(board):
    free = scratch(board, measurements.log_stream, 20_000, 64, 4096, 1_000_000)
    assert free["lost_B"] == 0 and 64 < free["fullest_B"] < 2000
    kept = scratch(board, measurements.log_stream, 20_000, 64, 4096, 1_000_000, ring_B=free["fullest_B"])
    lost = scratch(board, measurements.log_stream, 20_000, 64, 4096, 1_000_000, ring_B=free["fullest_B"] - 100)
    assert kept["lost_B"] == 0 and lost["lost_B"] > 0


def test_a_ring_smaller_than_a_write_is_refused(board):
    with pytest.raises(NotMeasurable, match="never holds"):
        scratch(board, measurements.log_stream, 20_000, 4096, 4096, 1_000_000, ring_B=512)


def test_a_real_board_says_what_to_do_instead():
    class Real:
        target = "K64F"

    with pytest.raises(ConfigError, match="is a real board") as refused:
        measurements.file_transfer(Real(), 64, 1_000_000, 4096)
    assert "fs-*" in str(refused.value)


# -- every factor ----------------------------------------------------------------------------------------------


def transfer(board, **factors):
    return scratch(board, measurements.file_transfer, **factors)


def test_a_row_says_what_was_measured_with_and_on_what(board):
    write, read = transfer(board, buffer_B=1024, part="W25Q64JV", file_system="LFS", cache_size_B=256)
    assert write["part"] == "W25Q64JV" and write["bus"] == "SPI" and write["bus_Hz"] == 40_000_000
    assert (write["read_size_B"], write["prog_size_B"], write["block_size_B"]) == (1, 1, 4096)  # Mbed takes the part's
    assert (write["cache_size_B"], write["lookahead_size_B"]) == (256, 64)
    assert write["volume_B"] == 8 << 20 and write["mode"] == "new" and write["threads"] == 1
    assert "MK64FN1M0VLL12" in write["estimates"]  # the microcontroller is the board's
    assert set(write) == set(read)
    for unit in ("duration_s", "throughput_kBps", "latency_p99.9_ms", "latency_max_ms", "programmed_B", "ram_B"):
        assert unit in write


@pytest.mark.parametrize("file_system", ["FAT", "LFS"])
@pytest.mark.parametrize("mode", ["new", "append", "overwrite"])
@pytest.mark.parametrize("threads", [1, 3])
def test_files_are_written_and_read_back_in_every_way(file_system, mode, threads, board):
    write, read = transfer(
        board, buffer_B=700, part="W25Q64JV", file_system=file_system, mode=mode, threads=threads, file_B=10_000
    )
    assert write["bytes"] == read["bytes"] == 10_000 * threads
    assert write["calls"] == 15 * threads
    assert write["programmed_B"] >= 10_000 * threads and read["programs"] == read["most_erased_block"] == 0
    assert write["write_amplification"] == round(write["programmed_B"] / write["bytes"], 6)


def test_calls_of_several_threads_wait_for_each_other(board):
    alone, _ = transfer(board, buffer_B=4096, part="W25Q64JV", file_system="LFS")
    three, _ = transfer(board, buffer_B=4096, part="W25Q64JV", file_system="LFS", threads=3)
    assert 2 * alone["latency_p50_ms"] < three["latency_p50_ms"] < 4 * alone["latency_p50_ms"]
    assert three["throughput_kBps"] == pytest.approx(alone["throughput_kBps"], rel=0.1)
    assert three["ram_B"] - alone["ram_B"] == 2 * (64 + 84)  # a cache and a structure for each open file


def test_wear_is_that_of_the_erase_unit_most_worn(board):
    fat, _ = transfer(board, buffer_B=512, part="W25Q64JV", file_system="FAT", sync_every_B=512)
    lfs, _ = transfer(board, buffer_B=512, part="W25Q64JV", file_system="LFS", sync_every_B=512)
    assert fat["most_erased_block"] > 100 > 10 > lfs["most_erased_block"]  # the directory's sector, each time
    assert fat["erased_blocks"] == fat["erased_B"] // 4096


def test_maxima_are_slower_and_do_not_vary(board):
    typical, _ = transfer(board, buffer_B=4096, part="W25Q64JV", timing="typical")
    maximum, _ = transfer(board, buffer_B=4096, part="W25Q64JV", timing="maximum")
    assert maximum["throughput_kBps"] < 0.3 * typical["throughput_kBps"] and maximum["programs"] == typical["programs"]

    def seeded(seed, timing):
        with board.scratch(seed=seed) as fresh:
            return measurements.file_transfer(fresh, part="W25Q64JV", timing=timing)[0]["duration_s"]

    assert seeded(1, "typical") != seeded(2, "typical") and seeded(1, "maximum") == seeded(2, "maximum")


@pytest.mark.parametrize("file_system", ["FAT", "LFS"])
@pytest.mark.parametrize("percent", [10, 50, 90])
def test_a_volume_is_filled_as_far_as_was_asked(file_system, percent, board):
    used = []

    def main(device):
        setup = measurements.VolumeSetup(
            part="W25Q64JV", file_system=file_system, volume_B=1 << 20, fill_percent=percent
        )
        room = make_volume(fresh, device.clock, setup).fs.statvfs()
        used.append(100 * (1 - room.free_blocks / room.blocks))

    with board.scratch(seed=1) as fresh:
        fresh.run(main)
    assert used[0] == pytest.approx(percent, abs=2)


def test_a_full_littlefs_looks_longer_for_a_free_block(board):
    blank, _ = transfer(board, part="MX25L51245G", fill_percent=0, volume_B=4 << 20, lookahead_size_B=8)
    full, _ = transfer(board, part="MX25L51245G", fill_percent=80, volume_B=4 << 20, lookahead_size_B=8)
    assert full["reads"] > 3 * blank["reads"]


@pytest.mark.parametrize(
    ("factors", "why"),
    [
        ({"part": "STM32F429ZI", "file_system": "FAT"}, "erases 131072 B at a time: its sectors are 512, 1024, 2048"),
        ({"file_system": "FAT", "cache_size_B": 512}, "FAT has no cache_size: its only buffer is one sector"),
        ({"part": "W25Q64JV", "block_size_B": 512}, "block_size of 512 B is below the 4096 B that W25Q64JV erases"),
        ({"part": "W25Q64JV", "cache_size_B": 96}, "block_size of 4096 B is no multiple of cache_size, 96 B"),
        ({"part": "W25Q64JV", "cache_size_B": 100, "prog_size_B": 64}, "cache_size of 100 B is no multiple of prog_si"),
        ({"part": "W25Q64JV", "lookahead_size_B": 12}, "lookahead_size of 12 B is no multiple of 8 bits a byte"),
        ({"file_system": "LFS", "prog_size_B": 64}, "prog_size of 64 B is no multiple of what the part programs, 512"),
        ({"bus": "QSPI"}, r"SDHC \(sd\) is not reached over QSPI"),
        ({"bus_Hz": 50_000_000}, "cannot be clocked at 50000000 Hz"),
        ({"part": "STM32F429ZI", "bus_Hz": 1_000_000}, "own flash, on no bus"),
        ({"part": "W25Q64JV", "volume_B": 1 << 30}, "larger than W25Q64JV, which has 8388608 B"),
        ({"part": "W25Q64JV", "file_B": 9 << 20}, "9437184 B have no room in"),
        ({"part": "W25Q64JV", "volume_B": 1 << 20, "fill_percent": 99}, "65536 B have no room in .* 99 % of 1048576 B"),
        ({"file_system": "LFS", "fill_percent": 90}, "too much to fill with littlefs"),
        ({"part": "W25Q64JV", "file_system": "FAT", "volume_B": 8192}, "size does not suit FAT12 or FAT16"),
        ({"part": "W25Q64JV", "volume_B": 4096}, "fewer than two blocks"),
        ({"part": "W25Q64JV", "lookahead_size_B": 8192}, "8192 B is more than 2048 blocks need: Mbed OS lowers it"),
        ({"part": "AT45DB321D", "volume_B": 1000}, "AT45DB321D makes 512 B of 1000 B"),
        ({"file_B": 10**12}, "1000000000000 B have no room in"),
        ({"buffer_B": 0}, "buffer_B is 0"),
        ({"sync_every_B": 0}, "sync_every_B is 0"),
        ({"threads": -1}, "threads is -1"),
        ({"bus_Hz": 0}, "bus_Hz is 0"),
        ({"fill_percent": 100}, "fill_percent is 100"),
        ({"fill_percent": float("nan")}, "fill_percent is nan"),
    ],
)
def test_what_does_not_go_together_is_named_and_explained(factors, why, board):
    with pytest.raises(NotMeasurable, match=why):
        transfer(board, **factors)


@pytest.mark.parametrize(
    ("factors", "why"),
    [
        ({"part": "W25Q99"}, "no part 'W25Q99'"),
        ({"file_system": "EXT4"}, "no file system 'EXT4'"),
        ({"bus": "I2C"}, "no bus 'I2C'"),
        ({"mode": "delete"}, "no mode 'delete'"),
        ({"timing": "maximun"}, "no timing 'maximun'"),
        ({"buffer_B": 64.5}, "buffer_B is 64.5"),
        ({"buffer_B": None}, "buffer_B is None"),
        ({"threads": True}, "threads is True"),
        ({"cache_size_B": "64"}, "cache_size_B is '64'"),
        ({"fill_percent": "50"}, "fill_percent is '50'"),
        ({"cash_size_B": 64}, "a volume has no cash_size_B"),
    ],
)
def test_what_there_is_not_ends_a_sweep_instead_of_thinning_it_out(factors, why, board):
    with pytest.raises(ConfigError, match=why):
        transfer(board, **factors)


@pytest.mark.parametrize(
    "size", ["volume_B", "read_size_B", "prog_size_B", "block_size_B", "cache_size_B", "lookahead_size_B"]
)
def test_a_size_of_nothing_is_not_taken_for_the_default(size, board):
    for nothing in (0, -8):
        with pytest.raises(NotMeasurable, match=f"{size} is {nothing}"):
            transfer(board, part="W25Q64JV", **{size: nothing})


def test_whole_numbers_of_a_table_with_gaps_are_whole(board):
    write, _ = transfer(board, buffer_B=4096.0, bus_Hz=1e6, part="W25Q64JV", cache_size_B=256.0, file_B=8192)
    assert (write["buffer_B"], write["bus_Hz"], write["cache_size_B"]) == (4096, 1_000_000, 256)
    assert isinstance(write["cache_size_B"], int)


@pytest.mark.parametrize(
    ("factor", "values", "left"),
    [
        ("buffer_B", [64, 0, -4], [64]),
        ("fill_percent", [0, 50, 100], [0, 50]),
        ("bus_Hz", [1_000_000, 0], [1_000_000]),
        ("cache_size_B", [None, 0, -1, 7, 64], [64, 64]),
        ("lookahead_size_B", [8, 8192], [8]),
    ],
)
def test_a_number_that_cannot_be_costs_a_sweep_its_point_and_no_more(factor, values, left, board, tmp_path):
    factors = {"part": ["W25Q64JV"], "volume_B": [1 << 20], "file_B": [8192], factor: values}
    run = experiment.sweep(
        measurements.file_transfer, factors, experiment="x", board=board, data=tmp_path, progress=False
    )
    assert run.frame.query("operation == 'write'")[factor].tolist() == left
    assert len(run.skipped) == len(values) - len(left) and run.skipped["why"].str.contains(factor[:9]).all()


@pytest.mark.parametrize("factor", ["rate_Bps", "write_B", "sync_every_B", "ring_B", "log_B"])
def test_a_logger_of_nothing_is_left_out_instead_of_logging_for_ever(factor, board):
    options = {"rate_Bps": 20_000, "write_B": 64, "sync_every_B": 4096}
    with pytest.raises(NotMeasurable, match=f"{factor} is 0"):
        scratch(board, measurements.log_stream, **options | {factor: 0})
    with pytest.raises(ConfigError, match=f"{factor} is 0.5"):
        scratch(board, measurements.log_stream, **options | {factor: 0.5})


@pytest.mark.parametrize("workers", [1, 2])
def test_a_part_of_ones_own_is_swept_by_its_name_and_measured_again_from_the_sidecar(workers, board, tmp_path):
    slow = part("W25Q64JV").with_(name="MINE", program=3_000_000)
    options = {"experiment": "x", "board": board, "data": tmp_path, "progress": False, "seed": 1}
    factors = {"part": [slow, "W25Q64JV"], "file_B": [8192]}
    run = experiment.sweep(measurements.file_transfer, factors, workers=workers, **options)
    mine, known = run.frame.query("operation == 'write'").to_dict("records")
    assert (mine["part"], known["part"]) == ("MINE", "W25Q64JV")
    assert mine["duration_s"] > 1.2 * known["duration_s"]
    assert run.sidecar["factors"]["part"] == ["MINE", "W25Q64JV"]
    assert run.sidecar["parts"]["part"] == {"MINE": json.loads(json.dumps(slow.row))}
    again = experiment.Run(tmp_path, run.name, json.loads((tmp_path / "x" / f"{run.name}.json").read_text()))
    assert experiment.rerun(again, progress=False, data=tmp_path / "again").digest == run.digest


def test_a_changed_part_that_kept_its_name_is_not_swept_beside_the_one_that_it_was(board):
    changed = part("SDHC").with_(program=1)
    with pytest.raises(ConfigError, match="part has a value twice") as refused:
        experiment.sweep(measurements.file_transfer, {"part": ["SDHC", changed]}, experiment="x", board=board)
    assert "with_(name=" in refused.value.hint


def test_a_sweep_over_a_product_leaves_out_what_cannot_be(board, tmp_path):
    factors = {"part": ["W25Q64JV", "STM32F429ZI"], "file_system": ["FAT", "LFS"], "file_B": [8192]}
    run = experiment.sweep(
        measurements.file_transfer, factors, experiment="x", board=board, data=tmp_path, progress=False
    )
    assert run.frame[["part", "file_system"]].drop_duplicates().values.tolist() == [
        ["W25Q64JV", "FAT"], ["W25Q64JV", "LFS"], ["STM32F429ZI", "LFS"],
    ]  # fmt: skip
    assert run.skipped["why"].str.contains("FAT cannot use STM32F429ZI").tolist() == [True]
    assert run.frame.attrs["units"]["latency_p99.9_ms"] == "ms"
    for column in ("part", "file_system", "estimates"):
        assert run.frame[column].dtype == "string"


def test_ram_is_what_the_librarys_structures_take():
    """lfs2.h and ff.h of Mbed OS 6, laid out by C's rules for pointers of 4 B."""
    word, half, byte = 4, 2, 1
    cache = 4 * word  # block, off, size, buffer
    mdir = 2 * word + word + word + word + half + byte + byte + 2 * word
    gstate, lookahead = 3 * word, 5 * word
    assert word + (half + byte + 1) + mdir + 2 * word + 4 * word + cache + word == memory.LFS_FILE
    assert 2 * cache + 2 * word + word + word + 3 * gstate + lookahead + word + 3 * word == memory.LFS_T
    assert (5 + 7 + 3 + 3) * word == memory.LFS_CONFIG
    assert 5 * byte + 1 + half + 3 * half + 2 + 12 * word == memory.FATFS
    assert word + half + 2 * byte + 2 * word + 2 * byte + 2 + 5 * word == memory.FIL
    assert sum(memory.littlefs_ram(64, 64, files=1).values()) == 2 * 64 + 64 + 84 + 64 + 120 + 72
    assert sum(memory.fat_ram(4096, files=2).values()) == 4096 + 2 * 40 + 512 + 64
