"""The vendor's SDK and enrollment: EnrollmentAPI, and the newer layer's entities, with files and their reports."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from pdmlab.service.enrollment import identity_of
from tests.sdk.lab import SdkLab


def identities(*names: str) -> list[str]:
    return [identity_of(name.encode()) for name in names]


def rows(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def test_the_older_class_claims_one_device_and_many(lab: SdkLab, tmp_path: Path) -> None:
    one, *many = identities("one", "two", "three")
    file = tmp_path / "list.csv"
    file.write_text("\n".join(["enrollment_identity", *many, one]))
    said = lab.run(
        """
import datetime, time

from mbed_cloud import EnrollmentAPI
from mbed_cloud.exceptions import CloudApiException

enrollment = EnrollmentAPI(config)
made = enrollment.add_enrollment_claim(claim_id=given["one"])
said["made"] = [made.claim_id, made.account_id, made.device_id, made.claimed_at]
said["times"] = made.expires_at > made.created_at
said["got"] = enrollment.get_enrollment_claim(made.id).claim_id
try:
    enrollment.add_enrollment_claim(claim_id=given["one"])
except CloudApiException as error:
    said["twice"] = error.status
bulk = enrollment.bulk_add_enrollment_claim(given["file"])
said["new"] = [bulk.status, bulk.total_count, bulk.completed_at]
while enrollment.get_bulk_add_enrollment_claim_status(bulk.id).status != "completed":
    time.sleep(0.05)
done = enrollment.get_bulk_add_enrollment_claim_status(bulk.id)
said["done"] = [done.processed_count, done.errors_count, done.full_report_file]
listed = list(enrollment.list_enrollment_claims(order="desc"))
said["listed"] = [each.claim_id for each in listed]
said["count"] = len(enrollment.list_enrollment_claims())
for each in listed:
    enrollment.delete_enrollment_claim(each.id)
said["gone"] = enrollment.get_enrollment_claim(made.id)
""",
        key=lab.new_key(),
        one=one,
        file=str(file),
    )
    assert said["made"] == [one, lab.service.account_id, None, None] and said["times"] and said["got"] == one
    assert said["twice"] == 409 and said["new"] == ["new", 3, None]
    processed, errors, report = said["done"]
    assert (processed, errors) == (3, 1) and report.startswith(lab.service.url)
    assert said["listed"] == [*reversed(many), one] and said["count"] == 3 and said["gone"] is None


FOUNDATION = """
import time

from mbed_cloud.sdk.exceptions import ApiErrorResponse

sdk = foundation().foundation
made = sdk.device_enrollment(enrollment_identity=given["one"]).create()
said["made"] = [made.enrollment_identity, made.enrolled_device_id, made.claimed_at, made.account_id]
said["read"] = sdk.device_enrollment(id=made.id).read().enrollment_identity
try:
    sdk.device_enrollment(enrollment_identity=given["one"]).create()
except ApiErrorResponse as error:
    said["twice"] = error.status_code


def completed(bulk):
    while bulk.read().status != "completed":
        time.sleep(0.05)
    return bulk


with open(given["file"], "rb") as file:
    bulk = completed(sdk.device_enrollment_bulk_create().create(file))
said["counts"] = [bulk.total_count, bulk.processed_count, bulk.errors_count]
said["report"] = bulk.download_full_report_file().read()
said["errors"] = bulk.download_errors_report_file().read()
said["listed"] = [each.enrollment_identity for each in sdk.device_enrollment().list(page_size=2)]
with open(given["file"], "rb") as file:
    bulk = completed(sdk.device_enrollment_bulk_delete().delete(file))
said["deleted"] = [bulk.total_count, bulk.processed_count, bulk.errors_count]
said["delete report"] = bulk.download_full_report_file().read()
said["delete errors"] = bulk.download_errors_report_file().read()
said["left"] = [each.enrollment_identity for each in sdk.device_enrollment().list()]

denials = list(sdk.device_enrollment_denial().list(filter={"trusted_certificate_id": {"eq": given["ca"]}}))
said["denied"] = [each.endpoint_name for each in denials]
denial = sdk.device_enrollment_denial().read(denials[0].id)
said["denial"] = [denial.trusted_certificate_id, denial.account_id, denial.created_at.year > 2000]
"""


def test_the_newer_entities_enroll_and_let_go_and_fetch_reports(lab: SdkLab, tmp_path: Path) -> None:
    one, *many = identities("four", "five", "six")
    file = tmp_path / "list.csv"
    file.write_text("\n".join(["enrollment_identity", *many, one, "nonsense"]))
    ca = "c" * 32
    trusted: list[dict[str, Any]] = [{"id": ca, "account_id": lab.service.account_id}]
    lab.service.call(lab.service.core.enrollments.denied, "stranger", trusted, "nobody has enrolled it")
    said = lab.run(FOUNDATION, key=lab.new_key(), one=one, file=str(file), ca=ca)
    assert said["made"] == [one, None, None, lab.service.account_id]
    assert said["read"] == one and said["twice"] == 409
    assert said["counts"] == [4, 4, 2]
    assert [(row[0], row[2]) for row in rows(said["report"])[1:]] == [
        *((each, "") for each in many),
        (one, "409"),
        ("nonsense", "400"),
    ]
    assert [row[0] for row in rows(said["errors"])[1:]] == [one, "nonsense"]
    assert said["listed"] == [one, *many]
    assert said["deleted"] == [4, 4, 1] and said["left"] == []
    assert [row[0] for row in rows(said["delete report"])[1:]] == [*many, one, "nonsense"]
    assert [row[0] for row in rows(said["delete errors"])[1:]] == ["nonsense"]
    assert said["denied"] == ["stranger"] and said["denial"] == [ca, lab.service.account_id, True]
