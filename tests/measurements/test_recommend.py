"""A recommended set-up holds its rate in a trial, and nothing smaller does."""

import json

import pytest

import pdmlab
from pdmlab import measurements
from pdmlab.errors import ConfigError, NotMeasurable
from pdmlab.sim.blueprint import Blueprint
from pdmlab.sim.board import VirtualBoard
from pdmlab.storage.parts import parts

LOG = 128 * 1024


@pytest.fixture(scope="module")
def board():
    with VirtualBoard("K64F", id="recommend", memory=True, power=False) as board:
        yield board


@pytest.fixture(scope="module")
def fat(board):
    return pdmlab.recommend(20_000, board=board, log_B=LOG, seed=1, progress=False)


@pytest.fixture(scope="module")
def lfs(board):
    return pdmlab.recommend(8_000, board=board, part="W25Q64JV", log_B=LOG, seed=1)


def trial(board, found, ring_B, **changes):
    """Log with a recommended set-up at typical times, whose part is that of parts.toml."""
    sizes = ("part", "bus", "file_system", "block_size_B", "cache_size_B", "lookahead_size_B")
    volume = {name: found.settings[name] for name in sizes if found.settings["file_system"] == "LFS" or "_" not in name}
    volume["file_system"] = found.settings["file_system"]
    options = {
        "write_B": found.write_B, "sync_every_B": found.sync_every_B, "bus_Hz": found.settings["bus_Hz"],
        "log_B": LOG, **volume, **changes,
    }  # fmt: skip
    with board.scratch(seed=1) as fresh:
        return measurements.log_stream(fresh, found.rate_Bps, ring_B=ring_B, **options)


def test_the_recommended_set_up_loses_nothing_and_the_next_smaller_ring_does(board, lfs):
    assert lfs.case == "typical times"
    assert trial(board, lfs, lfs.ring_B)["lost_B"] == 0
    assert trial(board, lfs, lfs.ring_B - 64)["lost_B"] > 0


def test_so_do_all_other_caches_and_writes_with_less_ram(board, lfs):
    """What the search did not try to the end, since it needs more, is tried here."""
    for cache in (64, 128, 256, 512):
        for write in (16, 256, 4096):
            row = trial(board, lfs, None, cache_size_B=cache, write_B=write, lookahead_size_B=16)
            needs = row["fullest_B"] + row["ram_B"]
            assert row["busy_percent"] >= 100 or needs > lfs.ram_B - 64, (cache, write, needs)


def test_a_cards_longest_stalls_decide_where_its_maxima_are_beyond_any_set_up(board, fat):
    assert fat.case == "typical times and longest stalls"
    typical, stalled, maximum = fat.cases.to_dict("records")
    assert typical["case"] == "typical times" and typical["lost_B"] == 0 and typical["margin_percent"] > 30
    assert stalled["lost_B"] == 0 and 0 <= stalled["margin_percent"] < 2
    assert stalled["longest_stall_ms"] > 250  # the stall, and the call that it came in
    assert maximum["fastest_kBps"] < 20 and fat.cases["lost_B"].isna().tolist() == [False, False, True]
    assert fat.ring_B > 0.25 * fat.rate_Bps  # what comes in such a stall
    # Every stall as long as it may be, and each of them met by a ring that is one step smaller.
    part = parts()["SDHC"]
    usual = {name: part[name] for name, figure in part.figures.items() if figure.maximum and name != "stall"}
    stalling = part.with_(stall_every=LOG // 3, **usual)
    assert trial(board, fat, fat.ring_B, part=stalling, timing="maximum")["lost_B"] == 0
    assert trial(board, fat, fat.ring_B - 64, part=stalling, timing="maximum")["lost_B"] > 0


def test_ram_is_broken_down_and_adds_up(fat, lfs):
    for found in (fat, lfs):
        assert sum(found.ram.values()) == found.ram_B and found.ram["ring buffer"] == found.ring_B
        others = found.runners_up
        assert len(others) == 4 and others["ram_B"].is_monotonic_increasing and others["ram_B"].min() >= found.ram_B
        assert set(others["clock"]) == {"device"} and set(others["simulated"]) == {True}


def test_it_looks_good_and_says_what_it_hangs_on(fat, lfs):
    for text in (repr(fat), fat._repr_html_()):
        assert "20 kB/s to FAT on SDHC over SPI at 1 MHz, K64F" in text and "SIMULATED" in text
        assert f"CircularBuffer&lt;char, {fat.ring_B}&gt;" in text or f"CircularBuffer<char, {fat.ring_B}>" in text
        assert "At maximum times no set-up holds it: the fastest writes" in text
        assert "MK64FN1M0VLL12" in text and fat.estimates in text and "sd.TRX_FREQUENCY" in text
    assert "caches" in lfs._repr_html_() and "lookahead" in repr(lfs)


def test_its_mbed_app_has_the_names_of_mbeds_own_libraries(fat, lfs, board):
    """sd, spif-driver, qspif and dataflash are the libraries of Mbed's drivers, littlefs2 that of the file system."""
    assert json.loads(fat.mbed_app) == {"target_overrides": {"*": {"sd.TRX_FREQUENCY": 1_000_000}}}
    options = json.loads(lfs.mbed_app)["target_overrides"]["*"]
    assert options == {
        "spif-driver.SPI_FREQ": 40_000_000,
        "littlefs2.block_size": 4096,
        "littlefs2.cache_size": lfs.settings["cache_size_B"],
        "littlefs2.lookahead_size": lfs.settings["lookahead_size_B"],
    }
    others = {"part": "AT45DB321D", "bus": "SPI", "bus_Hz": 1, "file_system": "FAT"}
    assert measurements.mbed_config.overrides("dataflash", others) == {
        "dataflash.SPI_FREQ": 1, "dataflash.binary-size": 1,
    }  # fmt: skip
    assert measurements.mbed_config.overrides("nor", others | {"bus": "QSPI"}) == {"qspif.QSPI_FREQ": 1}
    assert measurements.mbed_config.overrides("internal", others | {"bus": "internal", "bus_Hz": None}) == {}


def test_the_same_seed_recommends_the_same(board, lfs):
    assert repr(pdmlab.recommend(8_000, board=board, part="W25Q64JV", log_B=LOG, seed=1)) == repr(lfs)


def test_a_board_is_named_by_its_url_or_by_the_settings(monkeypatch):
    monkeypatch.setenv("PDMLAB_BOARD", "sim://DISCO_F413ZH?id=any")
    found = pdmlab.recommend(2_000, log_B=32 * 1024)
    assert found.board == "DISCO_F413ZH" and found.settings["bus"] == "QSPI"
    assert "qspif.QSPI_FREQ" in found.options
    with pytest.raises(ConfigError, match="is a real one"):
        pdmlab.recommend(2_000, board="serial:///dev/ttyACM0")


def test_a_rate_that_nothing_holds_is_refused_with_what_could_be(board):
    with pytest.raises(
        ConfigError, match=r"no set-up holds 500 kB/s to FAT on SDHC: the fastest of 6 writes \d"
    ) as error:
        pdmlab.recommend(500_000, board=board, log_B=LOG)
    assert "faster bus" in error.value.hint


def test_what_does_not_go_together_is_refused(board):
    with pytest.raises(NotMeasurable, match="FAT cannot use STM32F429ZI"):
        pdmlab.recommend(1_000, board=board, part="STM32F429ZI", file_system="FAT")
    with pytest.raises(ConfigError, match="1 or more"):
        pdmlab.recommend(0, board=board)


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), "20000", True, 20000.5, None])
def test_a_rate_that_is_no_whole_number_is_refused_in_words(rate, board):
    with pytest.raises(ConfigError, match="rate_Bps is"):
        pdmlab.recommend(rate, board=board)


def test_a_log_too_short_for_a_stall_is_refused_by_its_own_name(board):
    with pytest.raises(ConfigError, match="a log of 1 B is too short") as refused:
        pdmlab.recommend(20_000, board=board, log_B=1)
    assert "log_B" in refused.value.hint


def test_a_log_with_no_room_is_told_to_be_shorter(board):
    with pytest.raises(NotMeasurable, match="have no room") as refused:
        pdmlab.recommend(2_000, board=board, part="K64F", log_B=4 << 20, progress=False)
    assert "log_B" in refused.value.hint and "file_B" not in refused.value.hint


def test_a_small_volume_is_not_tried_with_more_lookahead_than_mbed_leaves_it(board):
    found = pdmlab.recommend(2_000, board=board, part="STM32F429ZI", log_B=4096, progress=False)
    assert found.settings["lookahead_size_B"] == found.ram["lookahead"] == 8  # of 24 sectors at most


def test_what_stays_free_is_told_to_the_byte(lfs):
    row = lfs.cases.query("case == @lfs.case").iloc[0]
    assert f"({lfs.ring_B - row.fullest_B} B stay free)" in repr(lfs)


def test_a_blueprint_is_as_good_as_a_board():
    from pdmlab.network.link import Link

    found = pdmlab.recommend(2_000, board=Blueprint("DISCO_F413ZH", "x", Link()), log_B=16 * 1024)
    assert found.write_B <= 4096


def test_progress_counts_the_trials(board, capsys):
    pdmlab.recommend(2_000, board=board, log_B=8 * 1024)
    assert "trial" in capsys.readouterr().err
