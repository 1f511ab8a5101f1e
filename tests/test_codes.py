"""Numbers are explained, whoever printed them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pdmlab
from pdmlab.codes import families, table
from pdmlab.errors import ConfigError, ManifestRejected, ResponseError, StorageError
from pdmlab.network.nsapi import NsapiError
from pdmlab.storage import HeapBlockDevice, LittleFileSystem2, Medium, NVStore, QSPIFBlockDevice, ReadOnlyBlockDevice
from pdmlab.storage.credentials import KcmStatus
from pdmlab.storage.kv import MbedError
from pdmlab.storage.kv.devicekey import DeviceKeyError
from pdmlab.storage.kv.esfsfile import EsfsError
from pdmlab.storage.kv.nvstore import NvstoreError
from pdmlab.storage.kv.sotp import SotpError


def test_the_code_of_a_card_that_is_not_seated_says_what_to_do() -> None:
    found = pdmlab.explain(-5005)
    assert found.name == "SD_BLOCK_DEVICE_ERROR_NO_DEVICE"
    assert found.family == "SD"
    assert "card" in found.meaning and "SPI pins" in found.advice


def test_a_number_of_several_owners_gets_all_its_readings() -> None:
    assert [row.name for row in pdmlab.explain(-5)] == ["EIO", "NVSTORE_BAD_VALUE", "DEVICEKEY_NOT_FOUND"]
    assert pdmlab.explain(-5, "nvstore").name == "NVSTORE_BAD_VALUE"
    assert "\nor " in repr(pdmlab.explain(-5))


def test_names_coap_codes_and_printed_numbers_are_understood() -> None:
    assert pdmlab.explain("enospc").code == "-28"
    assert pdmlab.explain("4.04").name == "Not Found"
    assert pdmlab.explain(" -3009 ").name == "NSAPI_ERROR_DNS_FAILURE"
    assert "signature" in pdmlab.explain(23).meaning
    assert pdmlab.explain("0x80FF0107").name == "MBED_ERROR_ITEM_NOT_FOUND"


def test_an_error_is_read_as_the_family_that_raised_it() -> None:
    heap = HeapBlockDevice(8192, 1, 8, 4096)
    heap.init()
    with pytest.raises(StorageError) as nvstore:
        NVStore(heap, [(0, 4096), (4096, 4096)]).get(1)
    assert pdmlab.explain(nvstore.value).name == "NVSTORE_NOT_FOUND"
    fs = LittleFileSystem2("fs")
    fs.reformat(HeapBlockDevice(1 << 16))
    with pytest.raises(StorageError) as missing:
        fs.stat("/nothing")
    assert pdmlab.explain(missing.value).name == "ENOENT"
    chip = QSPIFBlockDevice(Medium(1 << 16))
    chip.init()
    with pytest.raises(StorageError) as erase:
        chip.erase(1, 1)
    assert pdmlab.explain(erase.value).name == "QSPIF_BD_ERROR_INVALID_ERASE_PARAMS"
    assert pdmlab.explain(ResponseError("no", code="4.05 Method Not Allowed", path="/3/0/0")).code == "4.05"
    assert pdmlab.explain(ManifestRejected("no", result=23)).code == "23"


def test_every_code_that_is_raised_has_a_row() -> None:
    known = {row.name: row.code for row in table()}
    for member in NvstoreError:
        assert known[f"NVSTORE_{member.name}"] == str(member.value)
    for mbed in MbedError:
        assert known[f"MBED_ERROR_{mbed.name}"] == str(mbed.value)
    for prefix, members in {"ESFS": EsfsError, "SOTP": SotpError, "DEVICEKEY": DeviceKeyError}.items():
        for each in members:
            assert known[f"{prefix}_{each.name}"] == str(each.value)
    for status in KcmStatus:
        assert known[f"KCM_STATUS_{status.name}"] == str(status.value)
    for error in NsapiError:
        assert known[f"NSAPI_ERROR_{error.name}"] == str(error.value)
    source = "".join(path.read_text() for path in Path(pdmlab.__file__).parent.glob("storage/*.py"))
    named = set(re.findall(r"\b(SD_BLOCK_DEVICE_ERROR_\w+|Q?SPIF_BD_ERROR_\w+)\b", source))
    assert named <= set(known)
    for code in (-5003, -5004, -5005, -5006, -5011):
        assert pdmlab.explain(code).family == "SD"


def test_every_row_is_whole() -> None:
    assert len(table()) > 100
    assert len({(row.family, row.code) for row in table()}) == len(table())
    for row in table():
        assert re.fullmatch(r"-?\d+|[245]\.\d\d", row.code), row
        assert all((row.name, row.family, row.meaning, row.advice)), row


def test_an_unknown_code_names_the_families() -> None:
    with pytest.raises(ConfigError, match="-99999") as unknown:
        pdmlab.explain(-99999)
    assert all(family in str(unknown.value) for family in families())
    with pytest.raises(ConfigError, match="no table has the code '-5005' of family 'NVStore'"):
        pdmlab.explain(-5005, "NVStore")
    with pytest.raises(ConfigError, match="carries no number"):
        pdmlab.explain(ValueError("x"))


def test_a_cell_shows_a_table_and_escapes_it() -> None:
    html = pdmlab.explain(-5004)._repr_html_()
    assert "<table>" in html and "SD_BLOCK_DEVICE_ERROR_NO_INIT" in html and "<script" not in html


def test_the_number_that_newlib_prints_for_a_damaged_file_system_is_known() -> None:
    assert pdmlab.explain(-138).name == "EILSEQ"
    assert {row.code for row in pdmlab.explain("EILSEQ")} == {"-84", "-138"}


def test_a_write_to_a_read_only_device_is_explained_as_one() -> None:
    with pytest.raises(StorageError) as caught:
        ReadOnlyBlockDevice(HeapBlockDevice(4096)).program(0, bytes(512))
    assert "ReadOnlyBlockDevice" in pdmlab.explain(caught.value).meaning
