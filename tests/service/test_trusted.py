"""Trusted certificates and developer certificates over REST; the CAs are openssl's."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pdmlab.errors import ServiceError
from pdmlab.service.authority import MAX_CHAIN, read_authority
from pdmlab.service.developers import MAX_CERTIFICATES
from pdmlab.service.schema import trusted_certificates
from pdmlab.service.trusted import MAX_AUTHORITIES
from tests.service.reallab import RealLab, real
from tests.service.restlab import RestLab
from tests.service.works import Works
from tests.tools import program

PATH = "/v3/trusted-certificates"


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory) -> Works:
    """A factory with its CAs."""
    return Works(tmp_path_factory.mktemp("works"))


@pytest.fixture
def lab(database: str) -> Iterator[RestLab]:
    lab = RestLab(database)
    yield lab
    lab.close()


@pytest.fixture
def neighbour(lab: RestLab) -> str:
    """The key of another account."""

    async def another() -> str:
        said = {"display_name": "neighbour"}, {"email": "somebody@neighbour.example"}
        return lab.core.accounts.create_account(*said)[2]

    return lab.run(another())


def post(lab: RestLab, works: Works, name: str = "works", **fields: Any) -> httpx.Response:
    body = {"name": name, "certificate": works.pem("root"), "service": "bootstrap", **fields}
    return lab.call("POST", PATH, json={name: value for name, value in body.items() if value is not None})


def refused(answer: httpx.Response, status: int, type: str, word: str) -> None:
    body = answer.json()
    assert (answer.status_code, body["code"], body["type"]) == (status, status, type), body
    assert word in body["message"], body["message"]


# -- what is kept ----------------------------------------------------------------------------------------------------


def test_a_ca_is_shown_as_the_vendor_shows_it(lab: RestLab, works: Works) -> None:
    answer = post(lab, works, description="made here", status="INACTIVE")
    assert answer.status_code == 201
    shown = answer.json()
    said = works.openssl("x509", "-in", "root.pem", "-noout", "-fingerprint", "-sha256", "-dates")
    digest = re.search(r"Fingerprint=([0-9A-F:]+)", said)
    assert digest and shown["certificate_fingerprint"] == digest[1].replace(":", "").lower()
    assert (shown["subject"], shown["issuer"]) == ("CN=Works root,O=Works", "CN=Works root,O=Works")
    assert shown["certificate"] == works.pem("root") and shown["valid"] is True
    assert (shown["name"], shown["service"], shown["status"]) == ("works", "bootstrap", "INACTIVE")
    assert (shown["description"], shown["device_execution_mode"], shown["enrollment_mode"]) == ("made here", 0, False)
    assert shown["object"] == "trusted-cert" and shown["etag"] == "1" and shown["account_id"] == lab.core.account_id
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", shown["validity"])
    assert lab.get(f"{PATH}/{shown['id']}") == shown
    line = works.pem("root").replace("\n", "")  # as somebody pastes it into a shell
    assert lab.call("PUT", f"{PATH}/{shown['id']}", json={"certificate": line}).json() == shown
    changed = lab.call("PUT", f"{PATH}/{shown['id']}", json={"status": "ACTIVE", "name": "the works"}).json()
    assert changed == {
        **shown,
        "status": "ACTIVE",
        "name": "the works",
        "etag": "2",
        "updated_at": changed["updated_at"],
    }
    moved = lab.call("PUT", f"{PATH}/{shown['id']}", json={"certificate": works.pem("line", "root")}).json()
    assert moved["subject"] == "CN=Works root line,O=Works" and moved["issuer"] == "CN=Works root,O=Works"
    assert lab.call("DELETE", f"{PATH}/{shown['id']}").status_code == 204
    refused(lab.call("GET", f"{PATH}/{shown['id']}"), 404, "not_found", "no trusted certificate")
    refused(lab.call("DELETE", f"{PATH}/{shown['id']}"), 404, "not_found", "no trusted certificate")


def test_a_list_is_filtered_in_the_vendors_ways(lab: RestLab, works: Works) -> None:
    root = post(lab, works).json()
    line = post(lab, works, "line", certificate=works.pem("root", "line"), service="lwm2m", status="INACTIVE").json()
    developer = lab.call("POST", "/v3/developer-certificates", json={"name": "desk"}).json()
    ids = {"root": root["id"], "line": line["id"], "developer": developer["id"]}

    def found(**query: str) -> set[str]:
        page = lab.get(PATH, params=query)
        assert page["object"] == "list" and page["total_count"] == len(page["data"])
        return {name for name, id in ids.items() if id in [each["id"] for each in page["data"]]}

    for query, names in (
        ({}, "root line developer"),
        ({"service__eq": "bootstrap"}, "root developer"),
        ({"service__eq": "LwM2M"}, "line"),
        ({"device_execution_mode__eq": "1"}, "developer"),
        ({"device_execution_mode__neq": "1"}, "root line"),
        ({"status__eq": "INACTIVE"}, "line"),
        ({"name__eq": "works"}, "root"),
        ({"subject__like": "cn=works root,"}, "root"),
        ({"subject__like": "LINE"}, "line"),
        ({"issuer__like": "works root"}, "root line"),
        ({"expire__eq": "1"}, ""),
        ({"expire__eq": "4000"}, "root line"),
        ({"valid__eq": "true"}, "root line developer"),
        ({"valid__eq": "false"}, ""),
        ({"enrollment_mode__eq": "true"}, ""),
        ({"owner__eq": "0" * 32}, ""),
        ({"filter": "status=ACTIVE"}, "root developer"),
    ):
        assert found(**query) == set(names.split()), query
    first = lab.get(PATH, params={"limit": "2"})
    assert first["has_more"] and len(first["data"]) == 2
    rest = lab.get(PATH, params={"limit": "2", "after": first["data"][-1]["id"]})
    assert [each["id"] for each in first["data"] + rest["data"]] == list(ids.values())
    for query in ({"colour__eq": "red"}, {"expire__eq": "soon"}, {"valid__eq": "perhaps"}, {"expire__eq": "-1"}):
        assert lab.call("GET", PATH, params=query).status_code == 400, query


def test_what_is_no_ca_is_refused_with_a_reason(lab: RestLab, works: Works) -> None:
    def made(name: str, kind: str, *arguments: str, extensions: str = "basicConstraints=critical,CA:TRUE") -> str:
        algorithm, _, value = kind.partition(":")
        works.openssl(
            "genpkey", "-algorithm", algorithm, *(("-pkeyopt", value) if value else ()), "-out", f"{name}.key"
        )
        works.request(name, f"/CN={name}" if name != "nameless" else "/")
        (works.folder / f"{name}.ext").write_text(extensions)
        options = arguments or ("-sha256",)
        files = ("-in", f"{name}.csr", "-signkey", f"{name}.key", "-extfile", f"{name}.ext", "-out", f"{name}.pem")
        works.openssl("x509", "-req", *files, *options)
        return works.pem(name)

    curve = "EC:ec_paramgen_curve:prime256v1"
    for pem, word in (
        ("", "is wanted as PEM"),
        ("MIIB", "is wanted as PEM"),
        (works.pem("root") + (works.folder / "root.key").read_text(), "without a private key"),
        (works.pem("root").replace("MII", "MIJ", 1), "cannot be read"),
        (made("leaf", curve, extensions="basicConstraints=CA:FALSE"), "is no CA's certificate"),
        (made("plain", curve, extensions="subjectKeyIdentifier=hash"), "is no CA's certificate"),
        (made("unable", curve, extensions="basicConstraints=CA:TRUE\nkeyUsage=digitalSignature"), "may not sign"),
        (made("small", "RSA:rsa_keygen_bits:1024"), "RSA with 1024 bits"),
        (made("koblitz", "EC:ec_paramgen_curve:secp256k1"), "is weak: it is on secp256k1"),
        (made("edwards", "ED25519"), "of a kind that devices do not check"),
        (made("old", curve, "-sha256", "-days", "-1"), "was valid until"),
        (made("sha1", curve, "-sha1"), "the signature of CN=sha1 is weak"),
        (made("nameless", curve), "has no subject"),
        (made("large", curve, extensions="basicConstraints=CA:TRUE\nnsComment=" + "x" * 4000), "is too large"),
        (works.pem("line"), "is no root"),
        (works.pem("line", "small"), "are no chain"),
        (works.pem("root") * (MAX_CHAIN + 1), "is too long"),
    ):  # fmt: skip
        refused(post(lab, works, certificate=pem), 400, "validation_error", word)
    refused(post(lab, works, certificate="x" * 20_000), 400, "validation_error", "certificate")
    own = lab.core.pki.pem.decode()
    refused(post(lab, works, certificate=own), 400, "validation_error", "this service's own CA")
    for missing in ("name", "certificate", "service"):
        refused(post(lab, works, **{missing: None}), 400, "validation_error", missing)
    refused(post(lab, works, service="mqtt"), 400, "validation_error", "service")
    assert lab.get(PATH)["data"] == []
    rsa = made("rsa", "RSA:rsa_keygen_bits:2048")
    assert post(lab, works, "rsa", certificate=rsa).status_code == 201  # older factories have it


def test_a_chain_without_its_root_wants_a_signature_or_enrollment(lab: RestLab, works: Works) -> None:
    line = works.pem("line")
    (works.folder / "account").write_text(lab.core.account_id)
    works.openssl("dgst", "-sha256", "-sign", "line.key", "-out", "signature", "account")
    signature = base64.b64encode((works.folder / "signature").read_bytes()).decode()
    refused(post(lab, works, certificate=line), 400, "validation_error", "no root")
    for wrong in ("AAAA", "no base64!", base64.b64encode(b"x" * 70).decode()):
        refused(post(lab, works, certificate=line, signature=wrong), 400, "validation_error", "signature")
    signed = post(lab, works, certificate=line, signature=signature)
    assert signed.status_code == 201
    assert lab.call("PUT", f"{PATH}/{signed.json()['id']}", json={"service": "lwm2m"}).status_code == 200
    enrolled = post(lab, works, "enrolled", certificate=line, enrollment_mode=True).json()
    assert enrolled["enrollment_mode"] is True
    # Out of that mode it would be believed without a proof.
    answer = lab.call("PUT", f"{PATH}/{enrolled['id']}", json={"enrollment_mode": False})
    refused(answer, 400, "validation_error", "no root")
    answer = lab.call("PUT", f"{PATH}/{enrolled['id']}", json={"enrollment_mode": False, "signature": signature})
    assert answer.json()["enrollment_mode"] is False


def test_names_and_subjects_are_an_accounts_once(lab: RestLab, works: Works, neighbour: str) -> None:
    first = post(lab, works).json()
    refused(post(lab, works), 409, "duplicate", "name works")
    refused(post(lab, works, "again"), 409, "duplicate", "subject CN=Works root")
    assert post(lab, works, "at the other server", service="lwm2m").status_code == 201
    second = post(lab, works, "line", certificate=works.pem("line", "root")).json()
    refused(lab.call("PUT", f"{PATH}/{second['id']}", json={"name": "works"}), 409, "duplicate", "name works")
    answer = lab.call("PUT", f"{PATH}/{second['id']}", json={"certificate": works.pem("root")})
    refused(answer, 409, "duplicate", "subject")
    refused(lab.call("POST", "/v3/developer-certificates", json={"name": "works"}), 409, "duplicate", "works")
    # What one account has is nothing to another one: neither its names, nor that it is there.
    body = {"name": "works", "certificate": works.pem("root"), "service": "bootstrap"}
    assert lab.call("POST", PATH, json=body, key=neighbour).status_code == 201
    assert len(lab.get(PATH, key=neighbour)["data"]) == 1
    for method in ("GET", "PUT", "DELETE"):
        answer = lab.call(method, f"{PATH}/{first['id']}", key=neighbour, json={} if method == "PUT" else None)
        refused(answer, 404, "not_found", "no trusted certificate")
    assert lab.get(f"{PATH}/{first['id']}")["etag"] == "1"


def test_an_account_has_so_many_cas_and_no_more(lab: RestLab, works: Works) -> None:
    first = post(lab, works).json()

    async def fill() -> None:
        row = lab.core.trusted.get(lab.core.account_id, first["id"])
        rows = [{**row, "id": f"{n:032x}", "name": f"ca {n}", "subject_key": f"{n}"} for n in range(1, MAX_AUTHORITIES)]
        with lab.core.store.begin() as db:
            db.execute(sa.insert(trusted_certificates), rows)

    lab.run(fill())
    refused(post(lab, works, "more", service="lwm2m"), 403, "account_limit_exceeded", "at most 100")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_mutated_certificate_does_more_than_be_refused(works: Works, data: st.DataObject) -> None:
    der = bytearray(works.der("root"))
    for at in data.draw(st.lists(st.integers(0, len(der) - 1), min_size=1, max_size=6)):
        der[at] = data.draw(st.integers(0, 255))
    text = base64.encodebytes(bytes(der)).decode()
    pem = f"-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n"
    try:
        read_authority(pem, "0" * 32, 1.8e9, signature=None, unproved=True)
    except ServiceError as error:
        assert error.status == 400 and error.message


# -- developer certificates ------------------------------------------------------------------------------------------


def test_a_developer_certificate_stands_among_the_trusted_ones(lab: RestLab, works: Works, neighbour: str) -> None:
    made = lab.call("POST", "/v3/developer-certificates", json={"name": "desk", "description": "of the desk"})
    assert made.status_code == 201
    developer = made.json()
    shown = lab.get(f"{PATH}/{developer['id']}")
    assert (shown["service"], shown["device_execution_mode"], shown["status"]) == ("bootstrap", 1, "ACTIVE")
    assert shown["certificate"] == developer["developer_certificate"] and "private" not in str(shown).lower()
    assert shown["issuer"].startswith("CN=pdmlab CA") and f"CN={developer['id']}" in shown["subject"]
    assert lab.get(f"/v3/developer-certificates/{developer['id']}") == developer
    refused(lab.call("GET", f"/v3/developer-certificates/{developer['id']}", key=neighbour), 404, "not_found", "no dev")
    for fixed in ({"certificate": works.pem("root")}, {"service": "lwm2m"}, {"enrollment_mode": True}):
        answer = lab.call("PUT", f"{PATH}/{developer['id']}", json=fixed)
        refused(answer, 400, "validation_error", "cannot be changed")
    same = {"name": "desk 2", "certificate": shown["certificate"], "service": "bootstrap", "description": "x"}
    assert lab.call("PUT", f"{PATH}/{developer['id']}", json=same).json()["name"] == "desk 2"
    assert lab.call("DELETE", f"{PATH}/{developer['id']}").status_code == 204
    refused(lab.call("GET", f"/v3/developer-certificates/{developer['id']}"), 404, "not_found", "no developer")
    refused(lab.call("POST", "/v3/developer-certificates", json={}), 400, "validation_error", "name")


def test_the_c_file_compiles_and_is_what_the_greentea_host_reads(tmp_path: Path) -> None:
    sources: list[tuple[str, str]] = []

    async def story(lab: RealLab) -> None:
        row = lab.core.developers.add(lab.core.account_id, "desk")
        sources.append((lab.core.account_id, lab.core.developers.credentials(row).to_c()))

    real(story, tmp_path / "lab.sqlite")
    ((account_id, source),) = sources
    # sdk_host_tests.py looks for the account so.
    found = re.search(r'^const char MBED_CLOUD_DEV_ACCOUNT_ID\[\] = "([0-9a-f]{32})";$', source, re.MULTILINE)
    assert found and found[1] == account_id
    (tmp_path / "mbed_cloud_dev_credentials.c").write_text(source)
    (tmp_path / "main.c").write_text(_MAIN)
    command = [program("gcc", "cc"), "-Wall", "-Werror", "-std=c99", "main.c", "mbed_cloud_dev_credentials.c"]
    done = subprocess.run([*command, "-o", "main"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    said = subprocess.run([str(tmp_path / "main")], capture_output=True, timeout=60, check=True).stdout
    name = subprocess.run(
        [program("openssl"), "x509", "-inform", "DER", "-noout", "-subject", "-nameopt", "multiline"],
        input=said, capture_output=True, timeout=60, check=True,
    ).stdout.decode()  # fmt: skip
    assert account_id in name


_MAIN = """
#include <inttypes.h>
#include <stdio.h>

extern const uint8_t MBED_CLOUD_DEV_BOOTSTRAP_DEVICE_CERTIFICATE[];
extern const uint32_t MBED_CLOUD_DEV_BOOTSTRAP_DEVICE_CERTIFICATE_SIZE;
extern const char MBED_CLOUD_DEV_ACCOUNT_ID[];

int main(void) {
    fwrite(MBED_CLOUD_DEV_BOOTSTRAP_DEVICE_CERTIFICATE, 1, MBED_CLOUD_DEV_BOOTSTRAP_DEVICE_CERTIFICATE_SIZE, stdout);
    return MBED_CLOUD_DEV_ACCOUNT_ID[32];
}
"""


def test_an_account_has_so_many_developer_certificates_and_no_more(
    lab: RestLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pdmlab.service.developers.MAX_CERTIFICATES", 2)
    assert MAX_CERTIFICATES > 2
    for name in ("a", "b"):
        assert lab.call("POST", "/v3/developer-certificates", json={"name": name}).status_code == 201
    answer = lab.call("POST", "/v3/developer-certificates", json={"name": "c"})
    refused(answer, 403, "account_limit_exceeded", "at most 2")


# -- servers ---------------------------------------------------------------------------------------------------------


def test_servers_are_where_devices_find_them(lab: RestLab) -> None:
    both = lab.get("/v3/server-credentials")
    for role in ("bootstrap", "lwm2m"):
        shown = lab.get(f"/v3/server-credentials/{role}")
        assert both[role] == {"url": shown["server_uri"], "certificate": shown["server_certificate"]}
        assert shown["server_uri"] == lab.core.uri(role, account_id=lab.core.account_id)
        assert shown["server_certificate"] == lab.core.pki.pem.decode() and shown["object"] == "server-credentials"
        assert re.fullmatch("[0-9a-f]{32}", shown["id"]) and shown["created_at"].endswith("Z")
    assert both["bootstrap"] != both["lwm2m"]


@pytest.fixture(autouse=True, scope="module")
def cleaned(works: Works) -> Iterator[None]:
    """Leave no keys behind."""
    yield
    shutil.rmtree(works.folder)
