"""Bootstrap and renewals over REST: plans, rehearsals, transcripts, and certificates that are renewed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.service.restlab import RestLab


@pytest.fixture
def lab(database: str) -> Iterator[RestLab]:
    lab = RestLab(database)
    yield lab
    lab.close()


def test_the_plan_is_the_accounts_and_is_kept(lab: RestLab) -> None:
    assert lab.get("/lab/bootstrap/plan") == {"mode": "certificates", "delete": True, "server": False, "lifetime": 7200}
    wanted = {"mode": "est", "delete": False, "server": True, "lifetime": 600}
    assert lab.call("PUT", "/lab/bootstrap/plan", json=wanted).json() == wanted
    lab.restart()
    assert lab.get("/lab/bootstrap/plan") == wanted
    for wrong in ({"mode": "none"}, {"lifetime": 59}, {"delete": "perhaps"}):
        assert lab.call("PUT", "/lab/bootstrap/plan", json=wrong).status_code == 400
    assert lab.get("/lab/bootstrap/plan") == wanted


def test_a_rehearsal_shows_the_steps(lab: RestLab) -> None:
    rows = lab.get("/lab/bootstrap/rehearsal?endpoint_name=desk1")
    assert [(row["step"], row["blocks"], row["problems"]) for row in rows] == [
        ("DELETE /0", 1, ""),
        ("PUT /0", 1, ""),
        ("POST /bs", 1, ""),
    ]
    assert lab.get("/lab/bootstrap") == []


def test_renewals_of_what_is_not_there_are_refused(lab: RestLab) -> None:
    device = lab.device()
    for id, status in (("0" * 32, 404), (device.id, 423)):
        answer = lab.call("POST", f"/v3/devices/{id}/certificates/LWM2M/renew")
        assert answer.status_code == status and answer.json()["code"] == status
    device.deregister()
    answer = lab.call("POST", f"/v3/devices/{device.id}/certificates/LWM2M/renew")
    assert answer.status_code == 423 and "not registered" in answer.json()["message"]
    assert lab.get("/v3/certificate-enrollments")["total_count"] == 0
    assert lab.call("GET", f"/v3/certificate-enrollments/{'0' * 32}").status_code == 404


def test_a_renewal_is_asked_for_and_its_outcome_is_found(lab: RestLab) -> None:
    device = lab.device(links="</3/0/0>,</35011/0/27002>")
    device.values["/35011/0/27002"] = b""
    path = f"/v3/devices/{device.id}/certificates/customer.dlms/renew"
    refused = lab.call("POST", path)
    assert refused.status_code == 400 and "no certificate issuer is configured" in refused.json()["message"]
    named = {"reference": "customer.dlms", "certificate_issuer_id": None}
    assert lab.call("POST", "/v3/certificate-issuer-configurations", json=named).status_code == 201
    made = lab.call("POST", path)
    assert made.status_code == 201
    row = made.json()
    assert (row["object"], row["enroll_status"], row["certificate_name"]) == (
        "certificate-enrollment",
        "new",
        "customer.dlms",
    )
    lab.until(lambda: lab.core.est.enrollment(lab.core.account_id, row["id"])["enroll_status"] == "completed")
    done = lab.get(f"/v3/certificate-enrollments/{row['id']}")
    assert (done["enroll_status"], done["enroll_result"]) == ("completed", "success")
    assert lab.get("/v3/certificate-enrollments")["data"] == [done]
    assert device.asked[-1] == "POST /35011/0/27002"
    stranger = lab.run(_another_account(lab))
    assert lab.call("GET", f"/v3/certificate-enrollments/{row['id']}", key=stranger).status_code == 404


async def _another_account(lab: RestLab) -> str:
    import sqlalchemy as sa

    from pdmlab.service.schema import accounts

    at, id = lab.core.store.timestamp(), lab.core.store.ids.new()
    with lab.core.store.begin() as db:
        db.execute(sa.insert(accounts).values(id=id, display_name="neighbour", created_at=at, updated_at=at))
    return lab.core.accounts.create_key(id, "theirs")[1]
