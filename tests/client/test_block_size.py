"""The client's largest block is what its build's mbed_app.json says: on the wire as well."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pdmlab.client.block_size import DEFAULT, block_size, block_size_of
from pdmlab.errors import ConfigError
from pdmlab.firmware.image import read_image
from pdmlab.sim.board import VirtualBoard

KEY = "mbed-client.sn-coap-max-blockwise-payload-size"


def mbed_app(size: object, section: str = "*") -> dict[str, object]:
    return {"target_overrides": {section: {KEY: size}}}


def test_an_images_block_size_is_that_of_the_working_folders_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mbed_app.json").write_text(json.dumps(mbed_app(1024, "K64F")), encoding="utf-8")
    with VirtualBoard("K64F", memory=True, power=False) as board:
        assert block_size(read_image(board.build("example")).options) == 1024
    with VirtualBoard("K66F", memory=True, power=False) as board:
        assert block_size(read_image(board.build("example")).options) == DEFAULT == 512


@pytest.mark.parametrize("size", [0, 100, 2048, "512", True, 512.0])
def test_a_block_that_coap_does_not_know_is_refused(size: object) -> None:
    with pytest.raises(ConfigError, match="largest block"):
        block_size_of(mbed_app(size), "K64F")


def test_a_target_says_it_before_all_do_and_silence_is_none() -> None:
    both = {"target_overrides": {"*": {KEY: 256}, "K64F": {KEY: 64}}}
    assert (block_size_of(both, "K64F"), block_size_of(both, "K66F")) == (64, 256)
    assert block_size_of({}, "K64F") is None
