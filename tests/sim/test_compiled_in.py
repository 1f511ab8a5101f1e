"""What a board has compiled in: where it comes from, and what is said where that may surprise."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest

from pdmlab.errors import ConfigError
from pdmlab.service import Service
from pdmlab.sim.board import VirtualBoard
from pdmlab.sim.compiled_in import compiled_in
from pdmlab.update.credentials import CREDENTIALS_FILE, Credentials


def test_credentials_for_another_service_than_this_processs_are_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    there = Credentials("desk", "coap://127.0.0.1:9?aid=1")
    with Service(database=f"sqlite:///{tmp_path}/lab.sqlite") as service, warnings.catch_warnings():
        own = service.credentials()
        (tmp_path / CREDENTIALS_FILE).write_text(own.to_c())
        assert compiled_in("K64F").credentials == own
        (tmp_path / CREDENTIALS_FILE).write_text(service.credentials(secure=False).to_c())
        compiled_in("K64F")
        (tmp_path / CREDENTIALS_FILE).write_text(there.to_c())
        assert compiled_in("K64F", own).credentials == own
        with pytest.warns(UserWarning, match=r"go to coap://127\.0\.0\.1:9, as mbed_cloud_dev_cred.* at coaps://"):
            assert compiled_in("K64F").credentials == there
        assert compiled_in("K64F").credentials == there
        monkeypatch.setenv("PDMLAB_CREDENTIALS", str(tmp_path / CREDENTIALS_FILE))
        assert compiled_in("K64F").credentials == there
    compiled_in("K64F")


@pytest.mark.parametrize(
    ("target", "page", "fits"), [("K64F", 1000, False), ("K64F", 1536, True), ("K66F", 256, False)]
)
def test_pages_of_a_candidate_are_whole_units_of_its_medium(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, page: int, fits: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    said = {"fota.resume-support": "FOTA_RESUME_SUPPORT_RESUME", "fota.candidate-block-size": page}
    Path("mbed_app.json").write_text(json.dumps({"target_overrides": {"*": said}}), encoding="utf-8")
    with VirtualBoard(target, memory=True, power=False) as board:
        if fits:
            assert board.build("example")
        else:
            with pytest.raises(ConfigError, match=f"candidate-block-size is {page}.*512 B at once"):
                board.build("example")


@pytest.mark.parametrize("text", ["[]", "null", '"x"'])
def test_an_mbed_app_json_that_is_no_object_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mbed_app.json").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="holds no JSON object"):
        VirtualBoard("K64F", memory=True, power=False)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([], r"target_overrides in .*mbed_app\.json is \[\]"),
        ("K64F", r"target_overrides in .* is 'K64F'"),
        ({"K64F": []}, r"target_overrides\.K64F in .* is \[\]"),
        ({"*": {"pdmlab.prefech": 4}}, r"pdmlab has no setting pdmlab\.prefech \(.*\)\nhint: it has: pdmlab\.prefetch"),
        ({"*": {" PDMLAB_prefetch": 4}}, r"pdmlab has no setting  PDMLAB_prefetch"),
    ],
)
def test_what_would_be_passed_over_in_silence_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: object, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mbed_app.json").write_text(json.dumps({"target_overrides": overrides}), encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        VirtualBoard("K64F", memory=True, power=False)
