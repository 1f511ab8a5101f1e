"""CertificatesAPI, BootstrapAPI, BillingAPI, ConnectAPI.list_metrics, and the Foundation's security, by the SDK."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from tests.sdk.lab import SdkLab
from tests.service.works import Works

LINKS = "</3/0/0>,</5000/0/1>;obs,</35011/0/27002>"


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory) -> Works:
    """A factory whose CAs are openssl's."""
    return Works(tmp_path_factory.mktemp("works"))


def test_certificates_are_added_listed_changed_and_deleted(lab: SdkLab, works: Works) -> None:
    said = lab.run(
        """
from mbed_cloud.certificates import CertificatesAPI, CertificateType

api = CertificatesAPI(config)
made = api.add_certificate("factory", "bootstrap", given["root"], description="of the works")
said["made"] = made.to_dict()
lwm2m = api.add_certificate("meters", "lwm2m", given["root"], status="INACTIVE")
said["lwm2m"] = lwm2m.to_dict()
developer = api.add_developer_certificate("desk", description="of the desk")
said["developer"] = developer.to_dict()
said["got"] = api.get_certificate(developer.id).to_dict() == said["developer"]
for type in ("developer", "bootstrap", "lwm2m"):
    found = api.list_certificates(filters={"type": {"$eq": getattr(CertificateType, type)}}, include="total_count")
    said["list " + type] = [each.name for each in found]
said["all"] = [each.id for each in api.list_certificates(page_size=2)]
said["count"] = len(api.list_certificates())
changes = {"type": "bootstrap", "status": "INACTIVE", "name": "works"}
said["changed"] = api.update_certificate(made.id, certificate_data=given["root"], **changes).to_dict()
renamed = api.update_certificate(
    developer.id, certificate_data=developer.certificate_data, type="developer", name="the desk", status="ACTIVE"
)
said["renamed"] = renamed.to_dict()
for each in (made, lwm2m, developer):
    api.delete_certificate(each.id)
said["gone"] = [api.get_certificate(each.id) for each in (made, lwm2m, developer)]
""",
        root=works.pem("root"),
    )
    made, developer, lwm2m = said["made"], said["developer"], said["lwm2m"]
    assert (made["type"], made["status"], made["description"]) == ("bootstrap", "ACTIVE", "of the works")
    assert made["subject"] == made["issuer"] == "CN=Works root,O=Works" and made["validity"]
    assert made["server_uri"] == lab.service.bootstrap_uri
    assert made["server_certificate"] == lwm2m["server_certificate"] == lab.service.ca_file.read_text()
    assert lwm2m["server_uri"].startswith(lab.service.lwm2m_uri) and lwm2m["status"] == "INACTIVE"
    assert (developer["type"], developer["device_mode"], developer["name"]) == ("developer", 1, "desk")
    assert "BEGIN PRIVATE KEY" in developer["developer_private_key"] and said["got"]
    assert f'MBED_CLOUD_DEV_ACCOUNT_ID[] = "{lab.service.account_id}"' in developer["header_file"]
    assert said["list developer"] == ["desk"]
    assert set(said["list bootstrap"]) == {"factory", "desk"} and said["list lwm2m"] == ["meters"]
    assert said["all"] == [made["id"], lwm2m["id"], developer["id"]] and said["count"] == 3
    assert (said["changed"]["status"], said["changed"]["name"]) == ("INACTIVE", "works")
    assert said["renamed"]["name"] == "the desk" and said["gone"] == [None, None, None]


def test_pre_shared_keys_are_added_listed_and_deleted(lab: SdkLab) -> None:
    said = lab.run(
        """
from mbed_cloud import BootstrapAPI

api = BootstrapAPI(config)
names = ["sdk-endpoint-%04d" % number for number in range(5)]
for name in names:
    api.add_psk(endpoint_name=name, secret_hex="4a" * 16)
said["list"] = [each.endpoint_name for each in api.list_psks(page_size=2)]
got = api.get_psk(names[0])
said["got"], said["shown"], said["at"] = got.endpoint_name, got.to_dict(), got.created_at.year
for refused in (names[0], "short"):
    try:
        api.add_psk(endpoint_name=refused, secret_hex="4a" * 16)
    except Exception as error:
        said[refused] = error.status
for name in names:
    api.delete_psk(name)
said["gone"] = api.get_psk(names[0])
said["left"] = [each.endpoint_name for each in api.list_psks()]
""",
    )
    names = [f"sdk-endpoint-{number:04}" for number in range(5)]
    assert said["list"] == names and said["got"] == names[0] and said["at"] > 2000
    assert said["shown"]["secret_hex"] is None
    assert (said[names[0]], said["short"]) == (409, 400) and said["gone"] is None and said["left"] == []


def test_metrics_are_listed(lab: SdkLab) -> None:
    lab.device("counted")
    lab.rest.get("/v2/endpoints")
    said = lab.run(
        """
import datetime
from mbed_cloud import ConnectAPI

connect = ConnectAPI(config)
metrics = list(connect.list_metrics(period="1d", interval="1h"))
said["count"] = len(metrics)
said["registrations"] = sum(each.full_registrations for each in metrics)
said["calls"] = sum(each.successful_api_calls for each in metrics)
said["transactions"] = sum(each.transactions for each in metrics)
said["times"] = [each.timestamp.minute for each in metrics]
end = datetime.datetime.utcnow()
names, start = ["transactions", "successful_handshakes"], end - datetime.timedelta(days=7)
asked = connect.list_metrics(include=names, start=start, end=end, interval="1d")
said["pages"] = [(each.id, each.timestamp.isoformat()) for each in asked]
""",
    )
    assert said["count"] in (24, 25) and set(said["times"]) == {0}
    assert said["registrations"] >= 1 and said["calls"] >= 1 and said["transactions"] >= 1
    assert len(said["pages"]) == len(dict(said["pages"])) in (7, 8)


def test_nothing_is_billed(lab: SdkLab, tmp_path: Path) -> None:
    said = lab.run(
        """
from mbed_cloud import BillingAPI

api = BillingAPI(config)
for name, ask in {
    "packages": api.get_service_packages,
    "quota": api.get_quota_remaining,
    "history": lambda: list(api.get_quota_history()),
    "report": lambda: api.get_report_overview("2026-01", given["file"]),
    "devices": lambda: api.get_report_active_devices("2026-01", given["file"]),
    "updates": lambda: api.get_report_firmware_updates("2026-01", given["file"]),
}.items():
    try:
        said[name] = ask()
    except Exception as error:
        said[name] = error.status
""",
        file=str(tmp_path / "report.json"),
    )
    assert said == dict.fromkeys(("packages", "quota", "history", "report", "devices", "updates"), 403)


def test_foundation_certificates_and_credentials(lab: SdkLab, works: Works) -> None:
    said = lab.run(
        """
from mbed_cloud import ApiFilter

entities = foundation().foundation
made = entities.trusted_certificate()
made.name, made.certificate, made.service, made.description = "works", given["root"], "bootstrap", "of the works"
made.create()
said["made"] = [made.id, made.status, made.valid, made.is_developer_certificate, made.certificate_fingerprint]
made.status = "INACTIVE"
made.update()
again = entities.trusted_certificate(id=made.id)
again.read()
said["status"] = again.status
developer = entities.developer_certificate()
developer.name = "desk"
developer.create()
said["developer"] = [developer.id, developer.security_file_content, developer.developer_private_key]
trusted = developer.get_trusted_certificate_info()
said["trusted"] = [trusted.id, trusted.is_developer_certificate, trusted.service]
said["back"] = entities.trusted_certificate(id=trusted.id).get_developer_certificate_info().id
wanted = ApiFilter()
wanted.add_filter("device_execution_mode", "eq", 1)
said["developers"] = [each.id for each in entities.trusted_certificate().list(filter=wanted)]
wanted = ApiFilter()
wanted.add_filter("status", "eq", "INACTIVE")
said["inactive"] = [each.id for each in entities.trusted_certificate().list(filter=wanted, include="total_count")]
for name in ("get_bootstrap", "get_lwm2m"):
    server = getattr(entities.server_credentials(), name)()
    said[name] = [server.server_uri, server.server_certificate, server.id]
developer.delete()
again.delete()
said["left"] = [each.id for each in entities.trusted_certificate().list()]
""",
        root=works.pem("root"),
    )
    id, status, valid, is_developer, fingerprint = said["made"]
    assert (status, valid, is_developer, said["status"]) == ("ACTIVE", True, False, "INACTIVE")
    assert re.fullmatch("[0-9a-f]{64}", fingerprint) and said["inactive"] == [id]
    developer, source, private = said["developer"]
    assert "MBED_CLOUD_DEV_BOOTSTRAP_SERVER_URI" in source and "PRIVATE KEY" in private
    assert said["trusted"] == [developer, True, "bootstrap"] and said["back"] == developer
    assert said["developers"] == [developer] and said["left"] == []
    assert said["get_bootstrap"][0] == lab.service.bootstrap_uri
    assert said["get_lwm2m"][0].startswith(lab.service.lwm2m_uri) and "BEGIN CERT" in said["get_lwm2m"][1]


def test_foundation_certificates_of_another_account(lab: SdkLab, works: Works) -> None:
    body = {"display_name": "tenant", "admin_email": "somebody@tenant.example", "end_market": "IOT"}
    account = lab.rest.post("/v3/accounts", json=body)
    assert account.status_code == 201, account.text
    said = lab.run(
        """
entities = foundation().foundation
made = entities.subtenant_trusted_certificate()
made.account_id, made.name, made.certificate, made.service = given["account"], "works", given["root"], "lwm2m"
made.create()
said["id"], said["account"] = made.id, made.account_id
made.description = "of the tenant"
made.update()
again = entities.subtenant_trusted_certificate(id=made.id, account_id=given["account"])
said["description"] = again.read().description
account = entities.account(id=given["account"])
said["list"] = [each.id for each in account.trusted_certificates()]
said["own"] = [each.id for each in entities.trusted_certificate().list()]
again.delete()
""",
        account=account.json()["id"],
        root=works.pem("root"),
    )
    assert said["account"] == account.json()["id"] and said["description"] == "of the tenant"
    assert said["list"] == [said["id"]] and said["own"] == []


def test_foundation_keys_issuers_and_renewals(lab: SdkLab) -> None:
    device = lab.device("renewing", links=LINKS)
    device.values["/35011/0/27002"] = b""
    said = lab.run(
        """
entities = foundation().foundation
key = entities.pre_shared_key()
key.endpoint_name = "foundation-endpoint-1"
key.create("4a" * 16)
said["key"] = entities.pre_shared_key(id="foundation-endpoint-1").read().created_at.year
said["keys"] = [each.endpoint_name for each in entities.pre_shared_key().list()]
key.delete()

issuer = entities.certificate_issuer()
issuer.name, issuer.issuer_type = "theirs", "CFSSL_AUTH"
try:
    issuer.create({"hmac_hex_key": "00ff"})
except Exception as error:
    said["issuer"] = error.status_code if hasattr(error, "status_code") else str(error)
said["issuers"] = [each.id for each in entities.certificate_issuer().list()]

default = entities.certificate_issuer_config().get_default()
said["default"] = [default.reference, default.certificate_issuer_id]
named = entities.certificate_issuer_config()
named.reference = "customer.dlms"
named.create()
said["configured"] = [each.reference for each in entities.certificate_issuer_config().list()]
named.read()
named.update()

device = entities.device(id=given["device"])
renewal = device.renew_certificate("customer.dlms")
said["renewal"] = [renewal.device_id, renewal.certificate_name, renewal.enroll_status]
step("renewed")
renewal = entities.certificate_enrollment(id=renewal.id).read()
said["after"] = [renewal.enroll_status, renewal.enroll_result]
said["renewals"] = [each.id == renewal.id for each in entities.certificate_enrollment().list()]
named.delete()
""",
        device=device.id,
        steps={"renewed": lambda: completed(lab.rest)},
    )
    assert said["key"] > 2000 and said["keys"] == ["foundation-endpoint-1"]
    assert "424" in str(said["issuer"]) and said["issuers"] == []
    assert said["default"] == ["LWM2M", None] and said["configured"] == ["LWM2M", "customer.dlms"]
    assert said["renewal"] == [device.id, "customer.dlms", "new"]
    assert said["after"] == ["completed", "success"] and said["renewals"] == [True]


def completed(rest: httpx.Client) -> None:
    """Wait until every renewal has ended."""
    for _ in range(10_000):
        page = rest.get("/v3/certificate-enrollments", params={"enroll_status__neq": "completed"}).json()
        if not page["data"]:
            return
    raise AssertionError("the renewal does not end")
