"""Images, manifests and campaigns over REST, as the SDK and manifest-dev-tool call them."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa

from pdmlab.service import firmware, uploads
from pdmlab.service.rest import campaigns as rest_campaigns
from pdmlab.service.rest import uploads as rest_uploads
from pdmlab.service.schema import accounts, firmware_images, image_pieces, upload_chunks, upload_jobs
from pdmlab.update.developer import Developer
from tests.service.restlab import RestLab

IMAGE = bytes(range(256)) * 20
JOBS = "/v3/firmware-images/upload-jobs"


@pytest.fixture(scope="module")
def lab(shared_database: str) -> Iterator[RestLab]:
    lab = RestLab(shared_database, hold_s=1)
    yield lab
    lab.close()


@pytest.fixture(scope="module")
def developer(tmp_path_factory: pytest.TempPathFactory) -> Developer:
    developer = Developer(tmp_path_factory.mktemp("developer"))
    developer.init("company.com", "thermostat")
    return developer


def upload(lab: RestLab, data: bytes = IMAGE, name: str = "fw", **fields: str) -> dict[str, Any]:
    # manifest-tool adds datafile_encryption as Python writes a bool.
    form = {"name": name, "description": "", "datafile_encryption": "False", **fields}
    answer = lab.call("POST", "/v3/firmware-images/", data=form, files={"datafile": ("fw.bin", data)})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def manifest(lab: RestLab, developer: Developer, uri: str, version: str = "1.0.1") -> dict[str, Any]:
    der = developer.sign(IMAGE, version=version, uri=uri)
    answer = lab.call("POST", "/v3/firmware-manifests", data={"name": "m"}, files={"datafile": ("m.bin", der)})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def download(lab: RestLab, url: str, method: str = "GET", **headers: str) -> Any:
    return lab.run(lab.client.request(method, url, headers=headers))  # without a key, as devices come


# -- images ----------------------------------------------------------------------------------------------------------


def test_an_uploaded_image_is_what_devices_download(lab: RestLab) -> None:
    image = upload(lab)
    assert image["datafile_size"] == len(IMAGE)
    assert image["datafile_checksum"] == hashlib.sha256(IMAGE).hexdigest()
    assert image["datafile"].startswith("http://lab:8080/v3/firmware-images/") and len(image["datafile"]) <= 255
    assert {"short_datafile", "datafile_encryption", "encrypted_datafile_checksum", "encrypted_datafile_size"} <= set(
        image
    )
    assert download(lab, image["datafile"]).content == IMAGE
    assert lab.get(f"/v3/firmware-images/{image['id']}/") == image
    assert image in lab.get("/v3/firmware-images/?limit=1000")["data"]
    assert lab.run(_payload(lab, image["datafile"])) == lab.run(_payload(lab, image["short_datafile"])) == IMAGE


async def _payload(lab: RestLab, uri: str) -> bytes | None:
    image = lab.core.firmware.payload(uri)
    return None if image is None else image.read(0, image.size)


def test_an_image_is_found_whatever_port_the_service_has_now(lab: RestLab) -> None:
    id = upload(lab)["id"]
    for uri in (f"http://127.0.0.1:1/v3/firmware-images/{id}/firmware.bin", f"coap://[::1]:5/fw/{id}", f"/fw/{id}"):
        assert lab.run(_payload(lab, uri)) == IMAGE
    for uri in ("", "x", f"http://h/v3/devices/{id}", f"/fw/{id[:-1]}", f"/fw/{'f' * 32}", f"/fw/{id}x"):
        assert lab.run(_payload(lab, uri)) is None


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        ("bytes=0-9", slice(0, 10)),
        ("bytes=100-", slice(100, None)),
        ("bytes=-7", slice(-7, None)),
        ("bytes=5000-999999", slice(5000, None)),
        ("bytes=-999999", slice(0, None)),
    ],
)
def test_a_download_goes_on_where_it_was_cut_off(lab: RestLab, wanted: str, part: slice) -> None:
    answer = download(lab, upload(lab)["datafile"], Range=wanted)
    assert (answer.status_code, answer.content) == (206, IMAGE[part])
    start, stop, _ = part.indices(len(IMAGE))
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(IMAGE)}"


def test_a_range_that_is_none_gives_all_and_one_outside_nothing(lab: RestLab) -> None:
    url = upload(lab)["datafile"]
    for wanted in ("bytes=-", "bytes=a-b", "lines=1-2", "bytes=0-1,5-6"):
        assert download(lab, url, Range=wanted).content == IMAGE
    refused = download(lab, url, Range="bytes=999999-")
    assert (refused.status_code, refused.headers["content-range"]) == (416, f"bytes */{len(IMAGE)}")
    assert download(lab, url, "HEAD").headers["content-length"] == str(len(IMAGE))


def test_a_deleted_image_is_gone_for_devices_as_well(lab: RestLab) -> None:
    image = upload(lab)
    assert download(lab, image["datafile"]).status_code == 200
    assert lab.call("DELETE", f"/v3/firmware-images/{image['id']}/").status_code == 204
    assert download(lab, image["datafile"]).status_code == 404
    assert lab.call("GET", f"/v3/firmware-images/{image['id']}").status_code == 404


def test_an_image_of_nothing_and_one_that_is_too_large_are_refused(
    lab: RestLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(firmware, "MAX_IMAGE", 1000)
    for data, status in ((b"", 400), (bytes(1001), 413)):
        answer = lab.call("POST", "/v3/firmware-images", data={"name": "x"}, files={"datafile": ("x", data)})
        assert answer.status_code == status and answer.json()["object"] == "error"
    assert lab.call("POST", "/v3/firmware-images", data={"name": "x"}).status_code == 400
    assert lab.call("POST", "/v3/firmware-images", data={"datafile": "text"}).status_code == 400


# -- uploads in chunks -----------------------------------------------------------------------------------------------


def chunk(lab: RestLab, job: str, data: bytes, md5: str | None = None) -> Any:
    md5 = md5 or base64.b64encode(hashlib.md5(data).digest()).decode()
    headers = {"Content-Type": "binary/octet-stream", "Content-MD5": md5}
    return lab.call("POST", f"/v3/firmware-images/upload-jobs/{job}/chunks", content=data, headers=headers)


def test_an_image_that_comes_in_chunks_is_whole_when_the_empty_one_has_come(lab: RestLab) -> None:
    made = lab.call("POST", "/v3/firmware-images/upload-jobs", json={"name": "big", "datafile_encryption": False})
    assert made.status_code == 201
    job = made.json()
    assert (job["status"], job["complete"], job["firmware_image_id"]) == ("in_progress", False, None)
    for number, start in enumerate(range(0, len(IMAGE), 2000), 1):
        answer = chunk(lab, job["id"], IMAGE[start : start + 2000])
        assert answer.status_code == 201 and answer.json()["id"] == number
    assert chunk(lab, job["id"], b"wrong", md5="AAAA").status_code == 400
    assert chunk(lab, job["id"], b"").status_code == 201
    path = f"/v3/firmware-images/upload-jobs/{job['id']}"
    done = lab.get(path)  # stock tools do not poll: the image is there at once
    assert done["complete"] and lab.get(f"/v3/firmware-images/{done['firmware_image_id']}")["name"] == "big"
    assert download(lab, lab.get(f"/v3/firmware-images/{done['firmware_image_id']}")["datafile"]).content == IMAGE
    assert [each["length"] for each in lab.get(f"{path}/chunks")["data"]] == [2000, 2000, 1120, 0]
    assert chunk(lab, job["id"], b"late").status_code == 400
    assert lab.call("PUT", path, json={"name": "renamed"}).json()["name"] == "renamed"
    assert job["id"] in str(lab.get("/v3/firmware-images/upload-jobs/"))
    assert lab.call("DELETE", path).status_code == 204
    assert lab.call("GET", path).status_code == 404


def begin(lab: RestLab, name: str = "big", **options: Any) -> str:
    made = lab.call("POST", JOBS, json={"name": name}, **options)
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


def test_a_chunk_that_is_sent_again_for_want_of_an_answer_counts_once(lab: RestLab) -> None:
    job, part = begin(lab), b"the same bytes, "
    first = chunk(lab, job, part).json()
    lab.run(_unanswered(lab, job, 1))
    again = chunk(lab, job, part)  # its answer was lost: the sender cannot know that it has arrived
    assert (again.status_code, again.json()) == (201, first)
    assert chunk(lab, job, part).json()["id"] == 2  # that was answered: the image goes on with the same bytes
    assert chunk(lab, job, b"the end").json()["id"] == 3
    ends = [chunk(lab, job, b"") for _ in range(2)]
    assert [(end.status_code, end.json()["id"]) for end in ends] == [(201, 4), (201, 4)]
    image = lab.get(f"{JOBS}/{job}")["firmware_image_id"]
    assert download(lab, lab.get(f"/v3/firmware-images/{image}")["datafile"]).content == part * 2 + b"the end"


async def _unanswered(lab: RestLab, job: str, number: int) -> None:
    """Have a chunk be one whose sender has gone before it was told."""
    c = upload_chunks.c
    with lab.core.store.begin() as db:
        mine = sa.update(upload_chunks).where(c.upload_job_id == job, c.number == number)
        db.execute(mine.values(answered=False))


def test_a_sender_who_has_gone_is_not_taken_for_one_who_was_told(lab: RestLab) -> None:
    job = begin(lab)

    async def call() -> None:
        """Send a chunk as a client does that goes away before the answer."""
        messages = [{"type": "http.request", "body": b"gone", "more_body": False}, {"type": "http.disconnect"}]

        async def receive() -> dict[str, Any]:
            return messages.pop(0) if len(messages) > 1 else messages[0]

        async def send(message: Any) -> None:
            pass

        headers = [(b"authorization", f"Bearer {lab.key}".encode()), (b"host", b"lab")]
        scope = {"type": "http", "method": "POST", "path": f"{JOBS}/{job}/chunks", "query_string": b""}
        rest = {"headers": headers, "scheme": "http", "server": ("lab", 80), "root_path": "", "http_version": "1.1"}
        await lab.app({**scope, **rest, "asgi": {"version": "3.0"}, "client": ("lab", 1)}, receive, send)  # type: ignore[arg-type]

    lab.run(call())
    assert chunk(lab, job, b"gone").json()["id"] == 1
    assert chunk(lab, job, b"gone").json()["id"] == 2


def test_chunks_are_got_one_by_one_and_as_a_list_with_filters(lab: RestLab) -> None:
    job = begin(lab)
    made = [chunk(lab, job, bytes(size)) for size in (10, 20, 30)]
    assert made[1].headers["location"] == f"{JOBS}/{job}/chunks/2"
    md5 = base64.b64encode(hashlib.md5(bytes(20)).digest()).decode()
    assert lab.get(f"{JOBS}/{job}/chunks/2") == made[1].json() | {"hash": md5}
    for number in ("0", "4", "x", "99999999", "-1"):
        assert lab.call("GET", f"{JOBS}/{job}/chunks/{number}").status_code == 404

    def ids(query: str) -> list[int]:
        return [each["id"] for each in lab.get(f"{JOBS}/{job}/chunks{query}")["data"]]

    assert ids("?length__gte=20") == [2, 3] and ids("?id__in=1,3") == [1, 3] and ids("?filter=length%3D10") == [1]
    assert ids("?limit=2") == [1, 2] and ids("?limit=2&after=2") == [3] and ids("?order=DESC") == [3, 2, 1]
    assert len(made[0].json()["hash"]) == 24
    assert lab.call("POST", f"{JOBS}/{job}/chunks", content=b"no md5").json()["hash"] == ""


def test_uploads_of_another_account_are_as_if_there_were_none(lab: RestLab) -> None:
    other = lab.run(_stranger(lab))
    job, image = begin(lab), upload(lab)
    chunk(lab, job, b"x")
    paths = (f"{JOBS}/{job}", f"{JOBS}/{job}/chunks", f"{JOBS}/{job}/chunks/1", f"/v3/firmware-images/{image['id']}")
    for path in paths:
        mine, missing = (lab.call("GET", each, key=other) for each in (path, path.replace(job, "0" * 32)))
        assert (mine.status_code, mine.json()["type"]) == (404, "not_found") == (missing.status_code, "not_found")
    for method, path in (("PUT", f"{JOBS}/{job}"), ("DELETE", f"{JOBS}/{job}"), ("DELETE", paths[-1])):
        body = {"json": {"name": "mine"}} if method == "PUT" else {}
        assert lab.call(method, path, key=other, **body).status_code == 404
    headers = {"Content-Type": "binary/octet-stream"}
    assert lab.call("POST", f"{JOBS}/{job}/chunks", key=other, content=b"y", headers=headers).status_code == 404
    for path in (JOBS, "/v3/firmware-images", "/v3/firmware-manifests", "/v3/update-campaigns"):
        assert lab.get(path, key=other)["data"] == []
    assert lab.get(f"{JOBS}/{job}/chunks")["total_count"] == 1


async def _stranger(lab: RestLab) -> str:
    """Return a key of another account."""
    id, at = lab.core.store.ids.new(), lab.core.store.timestamp()
    with lab.core.store.begin() as db:
        db.execute(sa.insert(accounts).values(id=id, created_at=at, updated_at=at))
    return lab.core.accounts.create_key(id, "theirs")[1]


def test_endless_and_oversized_uploads_end_in_a_refusal(lab: RestLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MAX_CHUNKS", 3)
    monkeypatch.setattr(uploads, "MAX_IMAGE", 1000)
    job = begin(lab)
    assert [chunk(lab, job, bytes([number])).status_code for number in range(4)] == [201, 201, 201, 413]
    job = begin(lab)
    assert chunk(lab, job, bytes(900)).status_code == 201
    refused = chunk(lab, job, bytes(101))
    assert refused.status_code == 413 and "1000 B" in refused.json()["message"]
    assert chunk(lab, job, b"").status_code == 201  # what fits is an image
    for module in (uploads, rest_uploads):
        monkeypatch.setattr(module, "MAX_CHUNK", 50)
    assert chunk(lab, begin(lab), bytes(51)).status_code == 413
    monkeypatch.setattr(uploads, "MAX_JOBS", 1)
    refused = lab.call("POST", JOBS, json={"name": "one more"})
    assert (refused.status_code, refused.json()["type"]) == (409, "account_limit_exceeded")
    monkeypatch.setattr(firmware, "MAX_IMAGES", 1)
    refused = lab.call("POST", "/v3/firmware-images", data={"name": "x"}, files={"datafile": ("x", b"x")})
    assert (refused.status_code, refused.json()["type"]) == (403, "account_limit_exceeded")


def test_an_image_that_comes_in_one_request_and_is_large_is_kept_in_pieces(lab: RestLab) -> None:
    data = bytes(number * 17 % 256 for number in range(70_000)) * 40  # 2.8 MB
    image = upload(lab, data)
    assert image["datafile_checksum"] == hashlib.sha256(data).hexdigest()
    assert download(lab, image["datafile"]).content == data
    part = download(lab, image["datafile"], Range="bytes=131000-131100")
    assert part.content == data[131000:131101]
    assert all(each["id"] != image["id"] for each in lab.get(f"{JOBS}/")["data"])
    assert lab.call("DELETE", f"/v3/firmware-images/{image['id']}").status_code == 204
    lab.until(lambda: pieces(lab, image["id"]) == 0)


def pieces(lab: RestLab, image_id: str) -> int:
    count = sa.select(sa.func.count()).select_from(image_pieces).where(image_pieces.c.image_id == image_id)
    return int(lab.core.store.scalar(count))


def test_a_large_image_that_is_refused_leaves_nothing(lab: RestLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firmware, "MAX_IMAGES", 0)
    data = bytes(3 << 20)
    answer = lab.call("POST", "/v3/firmware-images", data={"name": "x"}, files={"datafile": ("x", data)})
    assert answer.status_code == 403
    none = sa.select(image_pieces.c.image_id).where(
        image_pieces.c.image_id.not_in(sa.select(firmware_images.c.id)),
        image_pieces.c.image_id.not_in(sa.select(upload_jobs.c.image_id)),
    )
    lab.until(lambda: lab.core.store.row(none) is None)


def test_an_upload_of_nothing_makes_no_image(lab: RestLab) -> None:
    job = lab.call("POST", "/v3/firmware-images/upload-jobs", json={"name": "none"}).json()["id"]
    assert chunk(lab, job, b"").status_code == 400
    assert lab.get(f"/v3/firmware-images/upload-jobs/{job}")["status"] == "in_progress"


# -- manifests -------------------------------------------------------------------------------------------------------


def test_a_manifest_is_kept_with_the_class_of_device_it_is_for(lab: RestLab, developer: Developer) -> None:
    made = manifest(lab, developer, upload(lab)["datafile"])
    assert made["device_class"] == developer.resources.class_id.hex()
    assert made["object"] == "firmware-manifest" and made["timestamp"].endswith("Z") and made["key_table"] is None
    assert lab.get(f"/v3/firmware-manifests/{made['id']}/") == made
    assert made in lab.get(f"/v3/firmware-manifests/?device_class__eq={made['device_class']}&limit=1000")["data"]
    assert len(download(lab, made["datafile"]).content) == made["datafile_size"]
    assert lab.call("DELETE", f"/v3/firmware-manifests/{made['id']}").status_code == 204
    assert lab.call("GET", f"/v3/firmware-manifests/{made['id']}").status_code == 404


def test_a_key_table_is_kept_for_those_who_have_a_key(lab: RestLab, developer: Developer) -> None:
    der = developer.sign(IMAGE, version="1.0.1", uri="http://lab/fw")
    files = {"datafile": ("m.bin", der), "key_table": ("keys", b"keys of devices")}
    made = lab.call("POST", "/v3/firmware-manifests", data={"name": "m"}, files=files).json()
    assert lab.get(f"/v3/firmware-manifests/{made['id']}")["key_table"] == made["key_table"]
    assert lab.call("GET", made["key_table"]).content == b"keys of devices"
    assert download(lab, made["key_table"]).status_code == 401
    assert lab.call("GET", made["key_table"], key=lab.run(_stranger(lab))).status_code == 404
    files["key_table"] = ("keys", bytes(firmware.MAX_KEY_TABLE + 1))
    assert lab.call("POST", "/v3/firmware-manifests", data={"name": "m"}, files=files).status_code == 400
    without = manifest(lab, developer, "http://lab/fw")
    path = f"/v3/firmware-manifests/{without['id']}/key-table/table.bin"
    assert without["key_table"] is None and lab.call("GET", path).status_code == 404


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("firmware-images", "datafile_size__eq=5120&name__eq={name}"),
        ("firmware-images", "datafile_checksum__eq={datafile_checksum}&id__in={id}"),
        ("firmware-images", "datafile__eq={datafile}"),
        ("firmware-images", "filter=name%3D{name}%26description%3D"),
        ("firmware-images", "created_at__gte={created_at}&created_at__lte={updated_at}&name__eq={name}"),
        ("firmware-manifests", "datafile__eq={datafile}"),
        ("firmware-manifests", "device_class__eq={device_class}&timestamp__gte={timestamp}&id__eq={id}"),
        ("firmware-manifests", "datafile_size__eq={datafile_size}&id__in={id}"),
        ("firmware-images/upload-jobs", "complete__eq=false&name__eq={name}&status__eq=in_progress"),
        ("update-campaigns", "state__in=draft,scheduled&root_manifest_id__eq={root_manifest_id}"),
        ("update-campaigns", "filter=device_filter%3D{encoded}%26phase__neq%3Dstopped"),
    ],
)
def test_lists_are_filtered_by_what_they_show(lab: RestLab, developer: Developer, path: str, query: str) -> None:
    name = f"only-{abs(hash((path, query))) % 10**6}"
    image = upload(lab, name=name)
    signed = manifest(lab, developer, image["datafile"])
    wanted = {"device_filter": f"name={name}", "root_manifest_id": signed["id"]}
    made = {
        "firmware-images": image,
        "firmware-manifests": signed,
        "firmware-images/upload-jobs": lab.get(f"{JOBS}/{begin(lab, name)}"),
        "update-campaigns": lab.call("POST", "/v3/update-campaigns", json=wanted).json(),
    }[path]
    encoded = quote(quote(str(made.get("device_filter"))))
    found = lab.get(f"/v3/{path}?{query.format(**{**made, 'name': name, 'encoded': encoded})}")
    assert [each["id"] for each in found["data"]] == [made["id"]]
    assert lab.call("GET", f"/v3/{path}?colour__eq=red").status_code == 400


@pytest.mark.parametrize("data", [b"", b"\x30", b"no manifest", b"\x30\x80" * 500, bytes(3000)], ids=range(5))
def test_what_is_no_manifest_is_refused(lab: RestLab, data: bytes) -> None:
    answer = lab.call("POST", "/v3/firmware-manifests/", data={"name": "m"}, files={"datafile": ("m", data)})
    assert answer.status_code == 400 and answer.json()["message"]


# -- campaigns -------------------------------------------------------------------------------------------------------


@pytest.fixture
def campaign(lab: RestLab, developer: Developer) -> dict[str, Any]:
    made = manifest(lab, developer, upload(lab)["datafile"])
    body = {"name": "update", "device_filter": "id__eq=" + "0" * 32, "root_manifest_id": made["id"]}
    answer = lab.call("POST", "/v3/update-campaigns/", json=body)
    assert answer.status_code == 201, answer.text
    created: dict[str, Any] = answer.json()
    return created


def test_a_campaign_is_a_draft_with_every_field_that_stock_tools_index(lab: RestLab, campaign: dict[str, Any]) -> None:
    assert (campaign["phase"], campaign["state"], campaign["object"]) == ("draft", "draft", "update-campaign")
    fields = "autostop_reason when started_at finished created_at updated_at etag root_manifest_url health_indicator"
    assert set(fields.split()) <= campaign.keys()
    assert campaign["device_filter"] == "id__eq=" + "0" * 32  # the SDK decodes it back
    assert lab.get(f"/v3/update-campaigns/{campaign['id']}/") == campaign
    assert lab.call("GET", f"/v3/update-campaigns/{campaign['id']}/metrics").status_code == 404
    assert campaign in lab.get("/v3/update-campaigns/?phase__eq=draft&limit=1000")["data"]


@pytest.mark.parametrize("how", ["start", "scheduled"])
def test_a_started_campaign_is_seen_to_run_and_then_to_have_stopped(
    lab: RestLab, campaign: dict[str, Any], how: str
) -> None:
    path = f"/v3/update-campaigns/{campaign['id']}"
    if how == "start":
        assert lab.call("POST", f"{path}/start").status_code == 202
    else:  # as the SDK does: all of it again, with another state
        again = {name: campaign[name] for name in ("name", "description", "device_filter", "root_manifest_id")}
        assert lab.call("PUT", f"{path}/", json={**again, "state": "scheduled"}).status_code == 200
    # manifest-tool takes a campaign that it does not see running for one that did not start.
    assert lab.get(path)["phase"] in ("starting", "active")
    assert lab.call("POST", f"{path}/start").status_code == 409
    assert lab.call("DELETE", path).status_code == 409
    assert lab.call("PUT", path, json={"name": "renamed"}).status_code == 200
    assert lab.call("PUT", path, json={"device_filter": "state=registered"}).status_code == 403
    assert lab.get(f"{path}/metrics")["total_count"] == 0
    assert lab.call("POST", f"{path}/stop").status_code == 202
    lab.until(lambda: lab.core.campaigns.find(lab.core.account_id, campaign["id"])["phase"] == "stopped")
    assert lab.call("POST", f"{path}/stop").status_code == 409
    assert lab.call("POST", f"{path}/archive").status_code == 202
    assert lab.get(path)["phase"] == "archived"
    assert lab.call("DELETE", f"{path}/").status_code == 204
    assert lab.call("GET", path).status_code == 404


def test_a_campaign_that_has_stopped_is_not_started_by_a_put(lab: RestLab, campaign: dict[str, Any]) -> None:
    path = f"/v3/update-campaigns/{campaign['id']}"
    assert lab.call("POST", f"{path}/start").status_code == 202
    again = lab.call("PUT", path, json={"state": "scheduled", "name": "again"})
    assert (again.status_code, again.json()["name"]) == (200, "again")  # it runs: there is nothing to start
    assert lab.call("POST", f"{path}/stop").status_code == 202
    lab.until(lambda: lab.core.campaigns.find(lab.core.account_id, campaign["id"])["phase"] == "stopped")
    refused = lab.call("PUT", path, json={"state": "scheduled", "name": "not kept"})
    assert (refused.status_code, refused.json()["type"]) == (409, "precondition_failed")
    now = lab.get(path)
    assert (now["name"], now["state"], now["autostop_reason"]) == (
        "again",
        "userstopped",
        "the campaign was stopped by a call",
    )
    assert lab.call("PUT", path, json={"state": "autostopped", "description": "kept"}).json()["description"] == "kept"
    for wrong in ({"state": "on"}, {"device_filter": "id=x\0"}, {"name": "\ud800"}):
        assert lab.call("PUT", path, content=json.dumps(wrong)).status_code == 400


def test_the_health_of_a_campaign_is_one_of_the_words_of_the_sdk() -> None:
    health = rest_campaigns._health
    found = [health("deploying", *failing) for failing in ((0, 0), (0, 5), (1, 10), (5, 10), (6, 10), (1, 1))]
    assert found == ["ok", "ok", "warning", "warning", "error", "error"]
    assert health("conflict", 0, 0) == "error"


def test_a_device_of_a_campaign_is_found_in_each_of_its_views(lab: RestLab, campaign: dict[str, Any]) -> None:
    device = lab.device("updatable", links='</10252/0/1>,</14/0/2>;v="1.0.0"')
    path = f"/v3/update-campaigns/{campaign['id']}"
    assert lab.call("PUT", path, json={"device_filter": f"id={device.id}&state=registered"}).status_code == 200
    assert lab.call("POST", f"{path}/start").status_code == 202
    lab.until(lambda: lab.core.campaigns.find(lab.core.account_id, campaign["id"])["phase"] == "stopped")
    (row,) = lab.get(f"{path}/campaign-device-metadata/")["data"]
    assert "POST /10252/0/1" in device.asked
    assert row["device_id"] == device.id and row["object"] == "update-campaign-device-metadata"
    assert lab.get(f"{path}/campaign-device-metadata/{row['id']}/") == row
    # The device has no /10252/0/1: it did not take the manifest.
    statistics = {each["id"]: each["count"] for each in lab.get(f"{path}/statistics/")["data"]}
    assert set(statistics) == {"fail", "success", "info", "skipped"} and sum(statistics.values()) == 1
    summary = next(name for name, count in statistics.items() if count)
    assert lab.get(f"{path}/statistics/{summary}")["count"] == 1
    (event,) = lab.get(f"{path}/statistics/{summary}/event_types/")["data"]
    assert event["object"] == "event-type" and event["description"]
    assert lab.get(f"{path}/statistics/{summary}/event_types/{event['id']}") == event
    assert event["id"].startswith("upd_") and event["event_type"].startswith("UPD4_")
    assert lab.call("GET", f"{path}/statistics/none/event_types").status_code == 404
    assert lab.call("GET", f"{path}/statistics/{summary}/event_types/upd_none_1").status_code == 404
    assert lab.call("GET", f"{path}/campaign-device-metadata/{'0' * 32}").status_code == 404
    assert lab.get(f"{path}/campaign-device-metadata?device_id__neq={device.id}")["data"] == []
    assert lab.get(f"{path}/campaign-device-metadata?campaign__eq={campaign['id']}")["data"] == [row]
    assert lab.get(path)["health_indicator"] == ("error" if summary == "fail" else "ok")
    assert lab.get(f"/lab/campaigns/{campaign['id']}/progress")[0]["device_id"] == device.id
    lab.call("POST", f"{path}/stop")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"device_filter": ""},
        {"device_filter": "colour=red"},
        {"device_filter": "id=a", "root_manifest_id": "f" * 32},
        {"device_filter": "id=a", "when": "soon"},
        {"device_filter": "id=a", "campaign_strategy": "for ever"},
        {"device_filter": "id=a", "name": "x" * 129},
        {"device_filter": {"id": "a"}},
    ],
)
def test_a_campaign_that_could_not_be_carried_out_is_refused(lab: RestLab, body: dict[str, Any]) -> None:
    answer = lab.call("POST", "/v3/update-campaigns", json=body)
    assert answer.status_code in (400, 404) and answer.json()["message"]


def test_a_time_that_one_sdk_sends_back_wrongly_is_mended(lab: RestLab, campaign: dict[str, Any]) -> None:
    path = f"/v3/update-campaigns/{campaign['id']}"
    changed = lab.call("PUT", path, json={"when": "2040-01-01T00:00:00+00:00Z"})
    assert changed.json()["when"] == "2040-01-01T00:00:00.000000Z"
    # A year of fewer digits would spoil every list for clients that read dates.
    early = lab.call("PUT", path, json={"when": "0001-01-01T00:00:00Z"}).json()["when"]
    assert datetime.datetime.fromisoformat(early).year == 1
    assert lab.call("PUT", path, json={"when": None}).json()["when"] is None


def test_a_campaign_without_a_manifest_does_not_start(lab: RestLab) -> None:
    made = lab.call("POST", "/v3/update-campaigns", json={"device_filter": "id=a"}).json()
    assert lab.call("POST", f"/v3/update-campaigns/{made['id']}/start").status_code == 400
    assert (
        lab.call("POST", "/v3/update-campaigns", json={"device_filter": "id=a", "state": "scheduled"}).status_code
        == 400
    )


def test_uploads_survive_a_restart_in_the_middle(database: str) -> None:
    lab = RestLab(database)
    try:
        job = lab.call("POST", "/v3/firmware-images/upload-jobs", json={"name": "big"}).json()["id"]
        chunk(lab, job, IMAGE[:1000])
        lab.restart()
        chunk(lab, job, IMAGE[1000:])
        chunk(lab, job, b"")
        image = lab.get(f"/v3/firmware-images/upload-jobs/{job}")["firmware_image_id"]
        assert lab.get(f"/v3/firmware-images/{image}")["datafile_checksum"] == hashlib.sha256(IMAGE).hexdigest()
    finally:
        lab.close()
