"""Settings: precedence, origins, and what a wrong one says."""

import pytest

from pdmlab import settings
from pdmlab.errors import ConfigError


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch, tmp_path):
    for name in settings.KNOWN:
        monkeypatch.delenv(f"PDMLAB_{name.upper()}", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_each_value_knows_where_it_came_from(monkeypatch, tmp_path):
    (tmp_path / "pdmlab.toml").write_text('board = "sim://K66F"\nseed = 5\n')
    monkeypatch.setenv("PDMLAB_SEED", "6")
    found = settings.load(host="http://127.0.0.1:1")
    assert (found["board"], found.origin("board")) == ("sim://K66F", str(tmp_path / "pdmlab.toml"))
    assert (found.number("seed"), found.origin("seed")) == (6, "PDMLAB_SEED")
    assert (found["host"], found.origin("host")) == ("http://127.0.0.1:1", "keyword")
    assert found.origin("data") == "default"


def test_an_unknown_setting_names_the_known_ones(tmp_path):
    (tmp_path / "pdmlab.toml").write_text("bord = 1\n")
    with pytest.raises(ConfigError, match="bord") as error:
        settings.load()
    assert "board" in error.value.hint


def test_an_unknown_variable_is_refused_like_an_unknown_line(monkeypatch):
    monkeypatch.setenv("PDMLAB_SEEED", "7")
    with pytest.raises(ConfigError, match=r"no setting 'seeed' \(a PDMLAB_\* variable\)\nhint: known are board, seed"):
        settings.load()


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "pdmlab.toml").write_text("board = \n")
    with pytest.raises(ConfigError, match=r"pdmlab\.toml is no TOML"):
        settings.load()


def test_a_number_that_is_none_says_where_it_was_set(monkeypatch):
    monkeypatch.setenv("PDMLAB_SEED", "many")
    with pytest.raises(ConfigError, match="PDMLAB_SEED"):
        settings.load().number("seed")


def test_the_api_key_is_neither_shown_nor_kept_with_a_run():
    found = settings.load(api_key="ak_secret")
    assert "ak_secret" not in repr(found) + found._repr_html_() + str(found.provenance())


def test_data_is_the_checkouts_own_folder_when_there_is_one(monkeypatch, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "pdmlab").mkdir()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert settings.load().folder("data") == tmp_path / "data"
