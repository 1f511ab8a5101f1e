"""The viewer: what it finds in images by their own marks, what it tells of records and credentials, and what not."""

from __future__ import annotations

import struct
from pathlib import Path
from xml.etree import ElementTree

import pytest

from pdmlab.errors import ConfigError
from pdmlab.storage import (
    CredentialStore,
    FATFileSystem,
    FileSystem,
    FlashIAPBlockDevice,
    LittleFileSystem2,
    Medium,
    SDBlockDevice,
    root_of_trust,
)
from pdmlab.storage.kv import DeviceKey, FileSystemStore, KVFlag, NVStore, Sotp, SotpType, TDBStore, View, view
from pdmlab.storage.kv.dump import find_stores
from pdmlab.storage.kv.picture import svg

ROOT = bytes.fromhex("5ec2e70000112233445566778899aabb")
AREAS = [(0, 4096), (4096, 4096)]


def flash(medium: Medium, unit: int = 8) -> FlashIAPBlockDevice:
    sectors = [(2, medium.size // 2)]
    return FlashIAPBlockDevice(medium, part="K64F", sectors=sectors, program_size=unit)


def nvstore(medium: Medium, unit: int = 8) -> NVStore:
    store = NVStore(flash(medium, unit), AREAS)
    root_of_trust(store, lambda n: ROOT[:n])
    return store


def tdbstore(medium: Medium, unit: int = 8) -> TDBStore:
    store = TDBStore(flash(medium, unit))
    store.init()
    return store


def card(fs: FileSystem) -> Medium:
    medium = Medium(4 << 20, erase_value=0)
    fs.reformat(SDBlockDevice(medium))
    store = CredentialStore(fs, ROOT)
    store.set("mbed.EndpointName", b"desk-1", factory=True)
    store.set("mbed.BootstrapDevicePrivateKey", b"hush, hush")
    store.set("mbed.BootstrapDeviceCert", b"for everybody")
    values = FileSystemStore(fs)
    values.init()
    values.set("ssid", b"lab")
    fs.unmount()
    return medium


# -- records -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", [8, 16, 32, 512])
def test_records_of_an_nvstore_are_told_live_from_garbage(unit: int) -> None:
    medium = Medium(8192)
    store = nvstore(medium, unit)
    store.set(7, b"old")
    store.set(7, b"new")
    store.set(9, b"gone")
    store.remove(9)
    frame = view(medium).records
    assert list(frame.columns) == [
        "store", "area", "offset", "key", "version", "flags", "size", "length", "crc", "state",
    ]  # fmt: skip
    assert frame[["key", "size", "flags", "state"]].to_numpy().tolist() == [
        ["master", 8, "", "master"],
        ["4 (ROT)", 16, "SET_ONCE", "live"],
        ["7", 3, "", "garbage"],
        ["7", 3, "", "live"],
        ["9", 4, "", "garbage"],
        ["9", 0, "", "deleted"],
    ]
    assert set(frame["version"]) == {1} and set(frame["crc"]) == {"ok"}
    lengths = frame["length"].tolist()
    assert frame["offset"].tolist() == [sum(lengths[:n]) for n in range(len(lengths))]
    assert find_stores(medium.peek(0, 8192))[0].unit == unit


@pytest.mark.parametrize("unit", [1, 8, 16, 64])
def test_both_areas_of_a_collected_tdbstore_are_told(unit: int) -> None:
    medium = Medium(8192)
    store = tdbstore(medium, unit)
    store.reserved_data_set(ROOT)
    while medium.peek(4096 + 256, 1) == b"\xff":
        store.set("often", b"secret value", KVFlag.REQUIRE_CONFIDENTIALITY)
    store.set("other", b"", KVFlag.WRITE_ONCE)
    frame = view(medium).records
    live = frame[frame.state == "live"]
    assert sorted(live["key"]) == ["often", "other"] and set(live["area"]) == {1} and set(live["version"]) == {2}
    assert set(live["flags"]) == {"CONFIDENTIALITY", "WRITE_ONCE"}
    old = frame[(frame.area == 0) & ~frame.state.isin(["master", "reserved"])]
    assert set(old["state"]) == {"garbage"} and len(old) > 10 and set(old["version"]) == {1}
    assert (frame.key == "reserved data").sum() == 2
    (dump,) = find_stores(medium.peek(0, 8192))
    assert (dump.kind, dump.root_of_trust) == ("TDBStore", ROOT)


def test_a_torn_record_is_damaged_and_not_live() -> None:
    medium = Medium(8192)
    store = nvstore(medium)
    store.set(7, b"kept")
    end = 16 + 24 + 16
    medium.poke(end, struct.pack("<HHI", 7, 100, 0x12345678) + bytes(40))
    frame = view(medium).records
    assert frame[["key", "crc", "state"]].to_numpy().tolist()[-2:] == [["7", "ok", "live"], ["?", "wrong", "damaged"]]
    medium = Medium(8192)
    tdb = tdbstore(medium)
    tdb.set("a", b"value")
    medium.poke(medium.peek(0, 4096).index(b"avalue") + 2, b"!")
    assert view(medium).records[["key", "crc", "state"]].to_numpy().tolist()[-1] == ["a", "wrong", "damaged"]


def test_a_sotp_in_the_last_sectors_of_a_whole_flash_is_found() -> None:
    medium = Medium(1 << 18)
    medium.poke(0, b"code, code, code" * 4096)
    device = FlashIAPBlockDevice(medium, part="K64F", sectors=[(64, 4096)], program_size=8)
    areas = [(0x3E000, 4096), (0x3F000, 4096)]
    store = Sotp(device, areas)
    store.set(SotpType.ROT, ROOT)
    (dump,) = find_stores(medium.peek(0, medium.size))
    assert (dump.kind, [(area.offset, area.size) for area in dump.areas]) == ("SOTP", areas)
    while store.flash.read(0x3F000, 1) == b"\xff":
        store.set(SotpType.SAVED_TIME, bytes(8))
    (dump,) = find_stores(medium.peek(0, medium.size))
    assert [(area.offset, area.live) for area in dump.areas] == [(0x3E000, False), (0x3F000, True)]
    assert dump.root_of_trust == ROOT
    assert [row.key for row in dump.areas[1].rows][:3] == ["master", "2 (SAVED_TIME)", "4 (ROT)"]


def test_the_picture_is_to_scale() -> None:
    medium = Medium(8192)
    nvstore(medium).set(7, bytes(1000))
    (dump,) = find_stores(medium.peek(0, 8192))
    drawing = ElementTree.fromstring(svg(dump))
    boxes = [box for box in drawing.iter("{http://www.w3.org/2000/svg}rect") if len(box)]
    widths = [float(box.attrib["width"]) for box in boxes]
    assert widths == pytest.approx([760 / 4096 * length for length in (16, 24, 1008)], abs=0.01)
    lefts = [float(box.attrib["x"]) - 150 for box in boxes]
    assert lefts == pytest.approx([0, widths[0], widths[0] + widths[1]], abs=0.02)
    assert "live" in "".join(drawing.itertext())


# -- volumes and what is stored ------------------------------------------------------------------------


@pytest.mark.parametrize("fs", [LittleFileSystem2("fs"), FATFileSystem("fs")], ids=["littlefs", "FAT"])
def test_credentials_on_a_card_are_listed_and_intact_where_sotp_says_so(fs: FileSystem) -> None:
    medium, sotp = card(fs), Medium(8192)
    nvstore(sotp)
    seen = view(medium, sotp=sotp)
    frame = seen.credentials
    told = {(row.store, row.name, row.file.split("/")[1]): row for row in frame.itertuples()}
    assert set(told) == {
        ("ESFS", "mbed.EndpointName", "WORKING"),
        ("ESFS", "mbed.EndpointName", "BACKUP"),
        ("ESFS", "mbed.BootstrapDevicePrivateKey", "WORKING"),
        ("ESFS", "mbed.BootstrapDeviceCert", "WORKING"),
        ("FileSystemStore", "ssid", "kvstore"),
    }
    key = told["ESFS", "mbed.BootstrapDevicePrivateKey", "WORKING"]
    assert (key.size, key.encrypted, key.factory, key.intact) == (10, True, False, "yes")
    assert told["ESFS", "mbed.EndpointName", "BACKUP"].factory
    assert not told["ESFS", "mbed.BootstrapDeviceCert", "WORKING"].encrypted
    assert set(view(medium).credentials.query("store == 'ESFS'").intact) == {"needs the SOTP dump"}
    for text in (repr(seen), seen._repr_html_()):
        assert "hush" not in text and ROOT.hex() not in text and "everybody" not in text and "mbed.EndpointName" in text


def test_damaged_torn_and_foreign_credentials_are_told_apart() -> None:
    fs = LittleFileSystem2("fs")
    medium, sotp, foreign = card(fs), Medium(8192), Medium(8192)
    nvstore(sotp)
    NVStore(flash(foreign), AREAS).set(SotpType.ROT, bytes(16))
    fs.mount(SDBlockDevice(medium))
    for leaf in fs.listdir("/BACKUP"):
        with fs.open(f"/BACKUP/{leaf}", "w") as file:
            file.write(b"\1\0")
    with fs.open("/WORKING/damaged", "w") as file:
        file.write(struct.pack("<HHH", 1, 0, 1) + b"x" + struct.pack("<H", 0) + b"data" + bytes(16))
    fs.mkdir("/kcm")
    with fs.open("/kcm/0123", "w") as file:
        file.write(b"old")
    fs.unmount()
    told = {row.file: row.intact for row in view(medium, sotp=sotp).credentials.itertuples()}
    assert told["/WORKING/damaged"] == "no: damaged, or stored under another root of trust"
    assert told["/kcm/0123"] == "not read any more"
    assert [state for file, state in told.items() if "BACKUP" in file] == ["no: torn"]
    others = view(medium, sotp=foreign).credentials
    assert "yes" not in set(others.intact)


def test_partitions_are_followed(tmp_path: Path) -> None:
    small = Medium(1 << 20, erase_value=0)
    fs = FATFileSystem("fs")
    fs.reformat(SDBlockDevice(small))
    CredentialStore(fs, ROOT).set("mbed.AccountID", b"1")
    fs.unmount()
    table = bytes(446)
    for kind, start, count in ((0x01, 64, 2048), (0x83, 4096, 100), (0x83, 1 << 30, 8), (0, 0, 0)):
        table += bytes([0, 0, 0, 0, kind, 0, 0, 0]) + struct.pack("<II", start, count)
    image = tmp_path / "card.img"
    image.write_bytes((table + b"\x55\xaa").ljust(64 * 512, b"\0") + small.peek(0, 1 << 20) + bytes(4 << 20))
    seen = view(image)
    assert [(v.kind, v.offset) for v in seen.volumes] == [
        ("MBR", 0), ("FAT", 64 * 512), ("unknown", 4096 * 512), ("MBR partition", 1 << 39),
    ]  # fmt: skip
    assert seen.credentials.name.tolist() == ["mbed.AccountID"]
    assert "card.img: 5275648 B" in repr(seen) and "past the end of the image" in repr(seen)


def test_a_volume_that_cannot_be_mounted_is_said_and_the_rest_shown() -> None:
    medium = card(LittleFileSystem2("fs"))
    raw = medium.peek(0, 8192)
    broken = raw[:8] + b"littlefs" + raw[16:64] + b"\0" * (512 - 64) + b"\xff" * 7680
    seen = view(broken)
    assert [v.kind for v in seen.volumes] == ["littlefs 2"]
    assert any("cannot be read" in note for note in seen.notes)
    assert seen.credentials.empty and "cannot be read" in seen._repr_html_()


@pytest.mark.parametrize("image", [b"\xff" * 4096, bytes(4096), b"x", bytes(range(256)) * 64])
def test_what_is_nothing_known_is_said(image: bytes) -> None:
    seen = view(image)
    assert isinstance(seen, View) and seen.records.empty and seen.credentials.empty
    assert "nothing that is known here" in repr(seen) and "nothing that is known" in seen._repr_html_()


def test_files_that_cannot_be_read_and_dumps_without_a_root_of_trust_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        view(tmp_path / "nothing.img")
    empty = tmp_path / "empty.img"
    empty.touch()
    with pytest.raises(ConfigError, match="is empty"):
        view(empty)
    medium = Medium(8192)
    NVStore(flash(medium), AREAS).set(1, b"")
    with pytest.raises(ConfigError, match="no root of trust"):
        view(medium, sotp=medium)
    removed = Medium(8192)
    store = Sotp(flash(removed), AREAS)
    store.set(SotpType.ROT, ROOT)
    store.remove(SotpType.ROT)
    with pytest.raises(ConfigError, match="no root of trust"):
        view(medium, sotp=removed)


def test_a_device_key_is_counted_and_hidden() -> None:
    medium = Medium(8192)
    store = tdbstore(medium)
    DeviceKey(store).inject(bytes.fromhex("0badc0de" * 8))
    seen = view(flash(medium))
    assert "reserved data" in repr(seen)
    assert "0badc0de" not in repr(seen) + seen._repr_html_()


def test_a_store_is_no_image_and_the_hint_says_what_is() -> None:
    with pytest.raises(ConfigError, match="is no image") as caught:
        view(tdbstore(Medium(8192)))  # type: ignore[arg-type]
    assert "view(store.bd)" in str(caught.value)


@pytest.mark.parametrize("fs", [LittleFileSystem2("fs"), FATFileSystem("fs")], ids=["littlefs", "FAT"])
def test_the_files_of_a_volume_are_listed(fs: FileSystem) -> None:
    medium = Medium(4 << 20, erase_value=0)
    fs.reformat(SDBlockDevice(medium))
    fs.mkdir("/logs")
    fs.mkdir("/logs/old")
    for path, size in (("/boot.txt", 5), ("/logs/today.csv", 700), ("/logs/old/last.csv", 0)):
        with fs.open(path, "w") as file:
            file.write(bytes(size))
    fs.unmount()
    seen = view(medium)
    assert seen.files[["path", "size"]].to_numpy().tolist() == [
        ["/boot.txt", 5], ["/logs/today.csv", 700], ["/logs/old/last.csv", 0],
    ]  # fmt: skip
    assert "    /logs/today.csv 700 B" in repr(seen) and "/logs/old/last.csv" in seen._repr_html_()
    assert not seen.notes


def test_no_more_files_are_listed_than_anybody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("stored", "viewer"):
        monkeypatch.setattr(f"pdmlab.storage.kv.{module}.MOST_FILES", 2)
    medium, fs = Medium(1 << 20, erase_value=0), LittleFileSystem2("fs")
    fs.reformat(SDBlockDevice(medium))
    for name in "abc":
        fs.open(f"/{name}", "w").close()
    fs.unmount()
    seen = view(medium)
    assert seen.files.path.tolist() == ["/a", "/b"]
    assert any("more files than 2" in note for note in seen.notes)


@pytest.mark.parametrize("fs", [LittleFileSystem2("fs"), FATFileSystem("fs")], ids=["littlefs", "FAT"])
def test_an_image_that_was_cut_short_is_said_to_be(fs: FileSystem) -> None:
    medium = Medium(4 << 20, erase_value=0)
    fs.reformat(SDBlockDevice(medium))
    fs.unmount()
    seen = view(medium.peek(0, 1 << 20))
    assert any("is cut short: 1048576 of its 4194304 B are here" in note for note in seen.notes)
