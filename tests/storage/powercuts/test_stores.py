"""Every store's ready story: who loses nothing, who loses what, and why."""

from __future__ import annotations

import pytest

from pdmlab.errors import ConfigError
from pdmlab.storage.powercuts import Image, Player, Step, explore, stories
from pdmlab.storage.powercuts.fatcheck import FatVolume, faults_in_words

LITTLEFS = {"default": 64 * 512, "eeprom": 64 * 512, "emmc": 64 * 512, "nor": 16 * 4096, "nand": 1 << 20,
            "sd": 64 * 512}  # fmt: skip


@pytest.mark.parametrize(("name", "size"), LITTLEFS.items())
def test_littlefs_loses_nothing_on_any_of_its_geometries(name, size):
    report = explore(stories.littlefs(name, size=size, length=14), second=1, progress=False)
    assert report.require().lost == 0
    assert {step.verb for step in report.story.steps} >= {"mkdir", "write"}


def test_littlefs_loses_nothing_in_any_pair_of_cuts():
    steps = ["mkdir /a", "write /a/f 200", "append /a/f 700", "rename /a/f /g", "write /g 30", "remove /g"]
    report = explore(stories.littlefs("emmc", size=64 * 512, steps=steps), second="all", torn=2, progress=False)
    assert report.require().second_cuts > 10 * report.operations


def test_a_file_beside_a_moved_one_is_hidden_until_the_first_write_and_not_lost():
    steps = ["mkdir /a", "mkdir /b", "write /a/f0 20", "write /a/f1 30", "write /a/f2 40", "rename /a/f1 /b/x"]
    report = explore(stories.littlefs("nor", size=16 * 4096, steps=steps), progress=False)
    assert report.require().flawed
    assert "hidden until the store's first write, of an earlier operation: /a/fn is gone" in dict(report.flaws)


@pytest.mark.parametrize("story", [stories.nvstore(), stories.nvstore("STM32F4"), stories.sotp(), stories.tdbstore()],
                         ids=lambda story: story.name)  # fmt: skip
def test_flash_stores_lose_nothing_over_their_collections(story):
    report = explore(story, second=1, progress=False)
    assert report.require().lost == 0
    assert any(each.kind == "erase" for each in report.trace.operations)


def test_nvstore_forgets_that_a_value_is_set_once_where_that_made_it_collect():
    report = explore(stories.nvstore(steps=[*["set 1 300"] * 13, "once 4 100"]), second=1, progress=False)
    assert report.require().flaws == [("'once n n' could be done again: it is not set once any more", report.flawed)]
    roomy = explore(stories.nvstore(steps=["set 1 300", "once 4 100"]), second=1, progress=False)
    assert roomy.require().flaws == []


def test_securestore_loses_a_protected_value_between_its_two_stores():
    report = explore(stories.securestore(steps=["set guarded-1 40", "set guarded-1 50"]), second=1, progress=False)
    assert report.lost and all("RBP_AUTHENTICATION_FAILED" in loss.what for loss in report.losses)
    assert "CMAC in the rollback protection store" in report.story.weakness
    plain = explore(stories.securestore(steps=["set plain-1 40", "set secret-1 50"]), second=1, progress=False)
    assert plain.require().lost == 0


def test_esfs_finds_a_torn_file_where_its_set_was_cut():
    report = explore(stories.esfs(steps=["set mbed.Name 300"]), second=1, progress=False)
    assert report.lost and {loss.what.partition(": ")[2][:16] for loss in report.losses} == {"ESFS: a file of "}


def test_fat_loses_a_file_that_is_written_anew_and_clusters_of_one_that_grows():
    report = explore(
        stories.fat(steps=["write /a 600", "append /a 600", "write /a 900"]),
        torn=0,
        reorder=0,
        second=0,
        progress=False,
    )
    assert report.lost and report.flawed
    loss = report.losses[0]
    assert "of the interrupted operation: /a" in loss.what
    assert "the root directory" in loss.cause or "the allocation table" in loss.cause
    assert "n clusters are lost: allocated, and of no file" in dict(report.flaws)


def test_a_torn_directory_sector_of_fat_takes_files_that_nobody_touched():
    steps = ["write /first 600", "write /second 600"]
    report = explore(stories.fat(steps=steps), reorder=0, second=0, progress=False)
    assert any("/first" in loss.what for loss in report.losses if "write /second" in loss.step)


def test_a_whole_fat_volume_has_no_faults():
    player = Player(stories.fat(length=20))
    image = Image(player.story.geometry, player.trace.base)
    image.redo(player.trace.operations)
    assert FatVolume(image.data).sound and faults_in_words(image.data) == ""


def test_an_instant_says_what_each_stretch_of_the_medium_holds():
    player = Player(stories.littlefs("nor", size=16 * 4096, length=12))
    torn = next(n for n, each in enumerate(player.trace.operations, 1) if each.kind == "program" and n > 40)
    instant = player.at(f"{torn}p1")
    frame = instant.frame
    operation = player.trace.operations[torn - 1]
    assert frame.loc[frame["offset_B"] <= operation.address, "holds"].iloc[-1] == "torn"
    assert {"erased", "live"} <= set(frame["holds"])
    assert len(frame) * instant.cell_B >= 16 * 4096 and frame["simulated"].all()
    assert instant.image[: operation.address] == player.at(f"{torn}b").image[: operation.address]
    assert "SIMULATED" in instant._repr_html_() and "nothing is lost" in repr(instant)


def test_a_second_cut_replays_over_the_first():
    report = explore(stories.fat(length=6), second="all", progress=False)
    pair = next(loss for loss in report.losses if "+" in loss.code)
    assert report.replay(pair.code).finding.words == pair.what


@pytest.mark.parametrize(
    "steps",
    [
        ["rename /a /b"],
        ["mkdir /a", "mkdir /a"],
        ["write /d/f 10"],
        ["write /f many"],
        ["fly /f"],
        ["remove"],
        ["set 3 10"],
        ["write f 10"],
        [],
    ],
)
def test_steps_that_cannot_be_taken_are_refused(steps):
    with pytest.raises(ConfigError):
        stories.fat(steps=steps) if steps else stories.StoreStory(
            "x", stories.geometry("nor"), [], opens=None, formats=None
        )


def test_steps_read_as_they_are_written():
    for text in ("mkdir /d", "write /f 300", "append /f 20", "rename /f /g", "remove /g", "set 3 40", "once 4 16"):
        assert str(Step.parse(text)) == text


def test_a_ready_story_is_found_by_its_name():
    for story in (stories.littlefs("emmc", size=64 * 512, seed=3, length=5), stories.nvstore(), stories.fat(length=4)):
        assert stories.ready(story.name).steps == story.steps


@pytest.mark.parametrize("make", stories.READY.values(), ids=stories.READY)
def test_no_steps_are_not_steps_to_be_drawn(make):
    with pytest.raises(ConfigError, match="has no steps"):
        make(steps=[])


@pytest.mark.parametrize("make", stories.READY.values(), ids=stories.READY)
@pytest.mark.parametrize(
    "option", [{"length": 0}, {"length": -1}, {"length": 2.5}, {"seed": "x"}, {"seed": -1}], ids=str
)
def test_a_length_or_seed_that_draws_nothing_is_named(make, option):
    ((name, value),) = option.items()
    with pytest.raises(ConfigError, match=f"{name} is {value!r}"):
        make(**option)


@pytest.mark.parametrize("make", stories.READY.values(), ids=stories.READY)
def test_a_story_has_as_many_steps_as_were_asked_for(make):
    assert [len(make(length=length).steps) for length in (1, 2, 7)] == [1, 2, 7]


TOLD = {
    "littlefs": ("default", "eeprom", "emmc", "nor", "nand", "sd"),
    "fat": ("default", "eeprom", "emmc", "nor", "sd"),
    "nvstore": ("eeprom", "nor", "K64F", "STM32F4"),
    "sotp": ("eeprom", "nor", "K64F", "STM32F4"),
    "tdbstore": ("eeprom", "emmc", "nor", "nand", "sd", "K64F"),
    "securestore": ("default", "eeprom", "emmc", "nor", "nand", "sd"),
    "esfs": ("default", "eeprom", "emmc", "nor", "nand", "sd"),
}


@pytest.mark.parametrize(("kind", "medium"), [(kind, each) for kind, media in TOLD.items() for each in media])
def test_a_ready_story_can_be_told_on_every_geometry_that_its_store_works_on(kind, medium):
    player = Player(stories.READY[kind](medium))
    assert player.operations > 20 and stories.ready(player.story.name).geometry == player.story.geometry


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: stories.fat("nand"), "FAT has no sectors of 32768 B, the erase unit of nand"),
        (lambda: stories.fat("STM32F4"), "FAT has no sectors of 65536 B, the erase unit of STM32F4"),
        (lambda: stories.fat("nor", size=65536), "on nor takes at least 128 sectors of 4096 B: 65536 B are too few"),
        (lambda: stories.nvstore("sd"), "read flash byte by byte, and sd is read by 512 B"),
        (lambda: stories.sotp("default"), "read flash byte by byte, and default is read by 16 B"),
        (lambda: explore(stories.tdbstore("STM32F4"), progress=False),
         r"the story tdbstore\(STM32F4\) cannot be told on 81920 B with units of 1/4/65536 B .* no two equal halves"),
        (lambda: explore(stories.nvstore(steps=["set 1 5000"]), progress=False),
         "nvstore on K64F cannot be told on 8192 B .*, at 'set 1 5000': NVStore: 5000 B for key 1"),
        # Mbed's own: a value that ends exactly where the area ends is written, and then refused
        (lambda: explore(stories.tdbstore("default"), progress=False),
         r"tdbstore\(default\) cannot be told on 16384 B .*, at 'set key-4 107': TDBStore: no sound record"),
    ],
)  # fmt: skip
def test_a_medium_that_a_store_cannot_have_is_named_with_the_reason(make, said):
    with pytest.raises(ConfigError, match=said):
        make()
