"""Certificate issuers and their configurations over REST: the service's own CA, and names that devices may renew."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.service.restlab import RestLab

PATH, ISSUERS = "/v3/certificate-issuer-configurations", "/v3/certificate-issuers"


@pytest.fixture
def lab(database: str) -> Iterator[RestLab]:
    lab = RestLab(database)
    yield lab
    lab.close()


def test_what_devices_register_with_is_signed_by_the_services_own_ca(lab: RestLab) -> None:
    default = lab.get(f"{PATH}/lwm2m")
    assert (default["reference"], default["certificate_issuer_id"], default["is_custom"]) == ("LWM2M", None, False)
    assert default["object"] == "certificate-issuer-configuration"
    assert lab.get(PATH)["data"] == [default] == lab.get(PATH, params={"reference__eq": "LWM2M"})["data"]
    assert lab.get(f"{PATH}/{default['id']}") == default
    same = lab.call("PUT", f"{PATH}/lwm2m", json={"certificate_issuer_id": None})
    assert (same.status_code, same.json()) == (200, default)
    other = lab.call("PUT", f"{PATH}/lwm2m", json={"certificate_issuer_id": "0" * 32})
    assert other.status_code == 400 and "no certificate issuer" in other.json()["message"]
    answer = lab.call("DELETE", f"{PATH}/{default['id']}")
    assert answer.status_code == 400 and "devices register with it" in answer.json()["message"]


def test_a_name_that_is_configured_can_be_renewed_and_one_that_is_deleted_cannot(lab: RestLab) -> None:
    made = lab.call("POST", PATH, json={"reference": "customer.dlms", "certificate_issuer_id": None})
    assert made.status_code == 201
    row = made.json()
    assert (row["reference"], row["is_custom"]) == ("customer.dlms", True)
    assert lab.call("POST", PATH, json={"reference": "customer.dlms"}).status_code == 409
    assert [each["reference"] for each in lab.get(PATH)["data"]] == ["LWM2M", "customer.dlms"]
    assert lab.get(f"{PATH}/{row['id']}") == row
    assert lab.call("PUT", f"{PATH}/{row['id']}", json={"certificate_issuer_id": None}).status_code == 200
    device = lab.device(links="</3/0/0>")
    renew = f"/v3/devices/{device.id}/certificates/customer.dlms/renew"
    assert lab.call("POST", renew).status_code == 423  # it is known, and the device cannot do it
    assert lab.call("DELETE", f"{PATH}/{row['id']}").status_code == 204
    assert lab.call("POST", renew).status_code == 400
    for method in ("GET", "PUT", "DELETE"):
        answer = lab.call(method, f"{PATH}/{row['id']}", json={} if method == "PUT" else None)
        assert answer.status_code == 404, method


def test_names_that_are_none_or_reserved_are_refused(lab: RestLab) -> None:
    for name in ("", "LwM2M", "BOOTSTRAP", "mbed.one", "with space", "x" * 51, "x" * 101, "slash/es", "NUL\0", "ä"):
        answer = lab.call("POST", PATH, json={"reference": name})
        assert (answer.status_code, answer.json()["type"]) == (400, "validation_error"), name


def test_a_third_partys_ca_is_refused_with_the_reason_and_keeps_no_secrets(lab: RestLab) -> None:
    body = {"name": "theirs", "issuer_type": "CFSSL_AUTH", "issuer_credentials": {"hmac_hex_key": "00ff" * 4}}
    answer = lab.call("POST", ISSUERS, json=body)
    said = answer.json()
    assert (answer.status_code, said["code"], said["type"]) == (424, 424, "failed_dependency")
    assert "reaches no CFSSL_AUTH" in said["message"] and "00ff" not in answer.text
    assert lab.call("POST", ISSUERS, json={**body, "issuer_type": "MINE"}).status_code == 400
    page = lab.get(ISSUERS)
    assert (page["data"], page["total_count"], page["has_more"]) == ([], 0, False)
    for method, path in (("GET", ""), ("PUT", ""), ("DELETE", ""), ("POST", "/verify")):
        answer = lab.call(method, f"{ISSUERS}/{'0' * 32}{path}", json={} if method == "PUT" else None)
        assert (answer.status_code, answer.json()["type"]) == (404, "not_found"), method
