from __future__ import annotations

import datetime
import os
import stat
import uuid
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from pdmlab.errors import ConfigError
from pdmlab.update.credentials import CREDENTIALS_FILE, RESOURCES_FILE, Credentials, UpdateResources
from pdmlab.update.csource import read_constants, write_constants
from pdmlab.update.developer import KEY_FILE, Developer, identifiers
from pdmlab.update.manifest import SignedManifest

# As the vendor's service formats it: odd line breaks, comments, definitions in another order.
VENDORS = """
/* Device Connector
 * const uint32_t MBED_CLOUD_DEV_MEMORY_TOTAL_KB = 7; */
#ifndef __MBED_CLOUD_DEV_CREDENTIALS_H__
#define __MBED_CLOUD_DEV_CREDENTIALS_H__
#include <inttypes.h>
const char MBED_CLOUD_DEV_BOOTSTRAP_ENDPOINT_NAME[] = "0161dbbcdd660a580a010c3403c00000";
const char MBED_CLOUD_DEV_ACCOUNT_ID[] = "015843e32ec902420a015e0700000000";
const
char MBED_CLOUD_DEV_BOOTSTRAP_SERVER_URI[] = "coaps://127.0.0.1:5684?aid=015843e32ec902420a015e0700000000"; // here

const uint8_t MBED_CLOUD_DEV_BOOTSTRAP_DEVICE_CERTIFICATE[] =
{ 0x30,
 0x82, 0x02 };
const uint32_t MBED_CLOUD_DEV_BOOTSTRAP_DEVICE_CERTIFICATE_SIZE = sizeof(MBED_CLOUD_DEV_BOOTSTRAP_DEVICE_CERTIFICATE);
const uint8_t MBED_CLOUD_DEV_BOOTSTRAP_SERVER_ROOT_CA_CERTIFICATE[] = { 0x01, 2, };
const uint8_t MBED_CLOUD_DEV_BOOTSTRAP_DEVICE_PRIVATE_KEY[] = { 0xFE, 0xED };
const char MBED_CLOUD_DEV_MANUFACTURER[] = "A \\"quoted\\" name";
const uint32_t MBED_CLOUD_DEV_MEMORY_TOTAL_KB = 0x100;
#endif
"""

SECURE = Credentials(
    "0161dbbcdd660a580a010c3403c00000",
    "coaps://127.0.0.1:5684?aid=015843e32ec902420a015e0700000000",
    "015843e32ec902420a015e0700000000",
    b"device certificate",
    b"root certificate",
    None,
    b"private key of the device",
)
PLAIN = Credentials("lab-1", "coap://127.0.0.1:5683")


def set_up(folder: Path, **arguments: object) -> Developer:
    developer = Developer(folder)
    developer.init("company.com", "thermostat", credentials=SECURE, **arguments)  # type: ignore[arg-type]
    return developer


def test_the_vendors_credentials_file_is_read() -> None:
    read = Credentials.from_c(VENDORS)
    assert read.bootstrap_endpoint_name == "0161dbbcdd660a580a010c3403c00000"
    assert read.bootstrap_server_uri.endswith("?aid=015843e32ec902420a015e0700000000")
    assert read.bootstrap_device_certificate == b"\x30\x82\x02"
    assert read.bootstrap_server_root_ca_certificate == b"\x01\x02"
    assert read.bootstrap_device_private_key == b"\xfe\xed"
    assert (read.manufacturer, read.memory_total_kb) == ('A "quoted" name', 256)


@pytest.mark.parametrize("credentials", [SECURE, PLAIN])
def test_credentials_read_back_from_c_and_from_an_image(credentials: Credentials) -> None:
    assert Credentials.from_c(credentials.to_c()) == credentials
    assert Credentials.from_mapping(credentials.to_mapping()) == credentials


def test_the_account_id_stands_on_a_line_that_greentea_finds() -> None:
    assert '\nconst char MBED_CLOUD_DEV_ACCOUNT_ID[] = "015843e32ec902420a015e0700000000";\n' in SECURE.to_c()


def test_the_credentials_file_says_what_it_holds() -> None:
    assert "the device's private key" in SECURE.to_c() and "holds no key" not in SECURE.to_c()
    assert "holds no key" in PLAIN.to_c() and "private key" not in PLAIN.to_c()


def test_credentials_never_show_the_key() -> None:
    assert "private key of the device" not in repr(SECURE) + str(SECURE)


@pytest.mark.parametrize(
    "source",
    [
        "",
        VENDORS.replace("coaps://", "http://"),
        VENDORS.replace("0xFE", "0x1FE"),
        VENDORS.replace("_PRIVATE_KEY[]", "_OTHER[]"),
        VENDORS.replace('"0161dbbcdd660a580a010c3403c00000"', "{ 1 }"),
    ],
)
def test_credentials_that_no_device_could_use_are_refused(source: str) -> None:
    with pytest.raises(ConfigError):
        Credentials.from_c(source)


@given(st.text(max_size=200))
def test_any_text_is_c_constants_or_a_config_error(text: str) -> None:
    try:
        read_constants(f"const char A[] = {text}; const uint8_t B[] = {{{text}}};")
    except ConfigError:
        pass


@given(
    st.dictionaries(
        st.from_regex(r"[A-Z][A-Z_]{0,10}", fullmatch=True),
        st.binary(min_size=1, max_size=40)
        | st.integers(0, 2**32 - 1)
        | st.text(st.characters(min_codepoint=32, max_codepoint=126)),
    )
)
def test_constants_read_back_as_they_were_written(constants: dict[str, bytes | int | str]) -> None:
    read = read_constants(write_constants(constants, guard="GUARD", about="/* not a comment's end"))
    assert {name: value for name, value in read.items() if name in constants} == constants


def test_ids_are_those_of_the_stock_tool() -> None:
    vendor, model = identifiers("arm.com", "k64f")
    assert vendor == uuid.uuid5(uuid.NAMESPACE_DNS, "arm.com") and model == uuid.uuid5(vendor, "k64f")
    # RFC 9562's and Python's own example domain, so that the name space is certain.
    assert identifiers("python.org", "x")[0].hex == "886313e13b8a53729b900c9aee199e5d"


@pytest.mark.parametrize(("domain", "model"), [("", "m"), ("no spaces.com", "m"), ("company", "m"), ("a.com", " ")])
def test_ids_of_nothing_are_refused(domain: str, model: str) -> None:
    with pytest.raises(ConfigError):
        identifiers(domain, model)


def test_a_folder_that_was_set_up_signs_manifests_its_devices_accept(tmp_path: Path) -> None:
    developer = set_up(tmp_path)
    signed = SignedManifest.parse(developer.sign(b"image", version="1.0.1", uri="/fw/1"))
    signed.verify(developer.resources.public_key)
    vendor, model = identifiers("company.com", "thermostat")
    assert (signed.manifest.vendor_id, signed.manifest.class_id) == (vendor.bytes, model.bytes)
    assert developer.credentials == SECURE


@pytest.mark.skipif(os.name == "nt", reason="Windows has no file modes")
def test_files_that_hold_keys_are_their_owners_alone(tmp_path: Path) -> None:
    set_up(tmp_path)
    for name in (KEY_FILE, CREDENTIALS_FILE):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_the_update_certificate_fits_the_client_and_lasts_twenty_years(tmp_path: Path) -> None:
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    Developer(tmp_path).init("a" * 60 + ".company.com", "m", now=now)
    der = Developer(tmp_path).resources.default_certificate
    certificate = x509.load_der_x509_certificate(der)
    assert len(der) <= 600 and certificate.not_valid_before_utc == now
    assert certificate.not_valid_after_utc.year == 2045
    certificate.verify_directly_issued_by(certificate)


def test_existing_files_are_only_overwritten_when_told(tmp_path: Path) -> None:
    set_up(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    questions: list[str] = []
    for ask in (None, lambda question: bool(questions.append(question))):
        with pytest.raises(ConfigError, match="nothing was changed"):
            set_up(tmp_path, ask=ask)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert RESOURCES_FILE in questions[0] and KEY_FILE in questions[0]
    set_up(tmp_path, ask=lambda question: True)
    set_up(tmp_path, force=True)
    assert (tmp_path / KEY_FILE).read_bytes() not in before.values()


def test_a_key_that_devices_do_not_know_is_refused(tmp_path: Path) -> None:
    set_up(tmp_path)
    old = (tmp_path / RESOURCES_FILE).read_text()
    set_up(tmp_path, force=True)
    (tmp_path / RESOURCES_FILE).write_text(old)
    with pytest.raises(ConfigError, match="do not belong together"):
        Developer(tmp_path).sign(b"image", version="1.0.0", uri="/fw")


def test_an_empty_folder_says_how_to_set_it_up(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="pdmlab dm init"):
        _ = Developer(tmp_path).resources


def test_update_resources_read_back_from_c_and_from_an_image(tmp_path: Path) -> None:
    resources = set_up(tmp_path).resources
    assert UpdateResources.from_mapping(resources.to_mapping()) == resources
    assert UpdateResources.from_c(resources.to_c()) == resources
    constants = read_constants(resources.to_c())
    assert isinstance(constants["arm_uc_update_public_key"], bytes)
    assert len(constants["arm_uc_update_public_key"]) == 65
