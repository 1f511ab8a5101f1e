"""The vendor's SDK and the directory: devices, queries, events and groups, in its older and its newer classes."""

from __future__ import annotations

from tests.sdk.lab import SdkLab

FINGERPRINT = ":".join(["AB"] * 32)

LEGACY = """
import datetime

from mbed_cloud import DeviceDirectoryAPI
from mbed_cloud.exceptions import CloudApiException

directory = DeviceDirectoryAPI(config)
made = directory.add_device(
    mechanism="connector",
    certificate_fingerprint=given["fingerprint"],
    certificate_issuer_id="0" * 32,
    name="sdk device",
    custom_attributes={"site": "a&b=c, d"},
    alias="sdk-device",
)
said["made"] = [made.name, made.certificate_fingerprint, made.alias, made.state, made.custom_attributes]
said["times"] = isinstance(made.created_at, datetime.datetime) and made.claimed_at is None
try:
    directory.add_device(mechanism="connector", certificate_fingerprint=given["fingerprint"])
except CloudApiException as error:
    said["twice"] = error.status
directory.update_device(made.id, name="renamed", description="by the SDK", custom_attributes={"site": "x"})
got = directory.get_device(made.id)
said["got"] = [got.name, got.description, got.custom_attributes, got.device_type]

since = datetime.datetime(2020, 1, 1)
wanted = {
    "id": {"$in": [made.id, "0" * 32]},
    "created_at": {"$gte": since},
    "name": {"$neq": "sdk device"},
    "custom_attributes": {"site": {"$eq": "x"}},
}
said["filtered"] = [each.id for each in directory.list_devices(filters=wanted)] == [made.id]
said["none"] = len(directory.list_devices(filters={"created_at": {"$lte": since}}))
said["nin"] = made.id in [each.id for each in directory.list_devices(filters={"state": {"$nin": ["registered"]}})]
said["newest"] = directory.list_devices(order="desc", limit=2).data[0].id == made.id
pages = directory.list_devices(page_size=2, include=["total_count"])
said["pages"] = len(list(pages)) == len(directory.list_devices()) == pages.count()

query = directory.add_query("awake", {"state": {"$eq": "registered"}, "custom_attributes": {"site": {"$eq": "a b"}}})
said["query"] = [query.name, query.filter]
query = directory.update_query(query.id, name="renamed")
said["requery"] = [query.name, query.filter]
query = directory.update_query(query.id, "both", {"alias": {"$neq": "desk 1"}})
said["both"] = [directory.get_query(query.id).name, query.filter]
said["queries"] = query.id in [each.id for each in directory.list_queries(filters={"name": {"$eq": "both"}})]
directory.delete_query(query.id)
said["no query"] = directory.get_query(query.id)

events = list(directory.list_device_events(filters={"device_id": {"$eq": made.id}}))
said["events"] = [each.event_type for each in events]
said["event"] = directory.get_device_event(events[0].id).device_id == made.id
said["since"] = len(directory.list_device_events(filters={"date_time": {"$lte": since}}))
directory.delete_device(made.id)
said["gone"] = directory.get_device(made.id)
"""


def test_the_older_class_makes_finds_and_deletes_devices_and_queries(lab: SdkLab) -> None:
    for name in ("directory-1", "directory-2"):
        lab.device(name)
    said = lab.run(LEGACY, key=lab.new_key(), fingerprint=FINGERPRINT)
    assert said["made"] == ["sdk device", FINGERPRINT, "sdk-device", "unenrolled", {"site": "a&b=c, d"}]
    assert said["times"] and said["twice"] == 409
    assert said["got"] == ["renamed", "by the SDK", {"site": "x"}, None]
    assert said["filtered"] and said["none"] == 0 and said["nin"] and said["newest"] and said["pages"]
    filter = {"state": {"$eq": "registered"}, "custom_attributes": {"site": {"$eq": "a b"}}}
    assert said["query"] == ["awake", filter] and said["requery"] == ["renamed", filter]
    # The SDK translates names when it asks, and not when it reads.
    assert said["both"] == ["both", {"endpoint_name": {"$neq": "desk 1"}}]
    assert said["queries"] and said["no query"] is None
    kinds = ["device-created", "device-updated"]
    assert [each.rpartition(".")[2] for each in said["events"]] == kinds and said["event"] and said["since"] == 0
    assert said["gone"] is None


FOUNDATION = """
import datetime

from mbed_cloud import ApiFilter
from mbed_cloud.foundation import Device, DeviceEvents, DeviceGroup
from mbed_cloud.sdk.exceptions import ApiErrorResponse

sdk = foundation().foundation
made = sdk.device(
    name="lamp",
    description="a lamp",
    custom_attributes={"room": "12"},
    device_key=given["fingerprint"],
    serial_number="0001",
    vendor_id="a" * 32,
    device_class="b" * 32,
    mechanism="direct",
    mechanism_url="coap://lamp",
    host_gateway="0" * 32,
    endpoint_type="lamp",
    device_execution_mode=1,
    bootstrap_expiration_date=datetime.date(2030, 1, 2),
    connector_expiration_date=datetime.date(2030, 1, 3),
    issuer_fingerprint="C4" * 32,
    state="bootstrapped",
).create()
said["made"] = [made.serial_number, made.bootstrap_expiration_date.isoformat(), made.state, made.device_execution_mode]
made.name, made.custom_attributes = "desk lamp", {"room": "13"}
made.update()
got = sdk.device(id=made.id).read()
said["got"] = [got.name, got.custom_attributes, got.auto_update, got.description]

wanted = ApiFilter()
wanted.add_filter("id", "in", [made.id, "0" * 32])
wanted.add_filter("created_at", "gte", datetime.datetime(2020, 1, 1))
wanted.add_filter("state", "neq", "registered")
said["filtered"] = [each.id for each in sdk.device().list(filter=wanted)] == [made.id]
plain = {"created_at": {"gte": datetime.datetime(2020, 1, 1)}, "device_key": {"eq": given["fingerprint"]}}
said["plain"] = [each.id for each in sdk.device().list(filter=plain)] == [made.id]
said["newest"] = next(iter(sdk.device().list(order="DESC", page_size=2))).id == made.id
said["all"] = len(list(sdk.device().list(page_size=2, include="total_count")))
said["count"] = sdk.device().list().count()

group = sdk.device_group(name="lamps", description="all", custom_attributes={"a": "b"}).create()
made.add_to_group(group.id)
said["members"] = [each.id for each in group.devices(filter={"name": {"eq": "desk lamp"}})] == [made.id]
said["members count"] = group.read().devices_count
made.remove_from_group(group.id)
group.add_device(made.id)
group.remove_device(device_id=made.id)
said["left"] = [each.id for each in group.devices()]
group.name, group.custom_attributes = "old lamps", {}
group.update()
said["group"] = [group.read().name, group.custom_attributes, group.devices_count]
listed = sdk.device_group().list(filter={"name": {"in": ["old lamps", "x"]}, "devices_count": {"lte": 0}})
said["groups"] = [each.id for each in listed] == [group.id]
said["group times"] = isinstance(group.created_at, datetime.datetime)
group.delete()
try:
    sdk.device_group(id=group.id).read()
except ApiErrorResponse as error:
    said["no group"] = error.status_code

events = list(sdk.device_events().list(filter={"device_id": {"eq": made.id}, "state_change": {"eq": False}}))
said["events"] = [each.event_type for each in events]
event = sdk.device_events(id=events[0].id).read()
said["event"] = [event.device_id == made.id, isinstance(event.date_time, datetime.datetime), event.data, event.changes]
made.delete()
try:
    sdk.device(id=made.id).read()
except ApiErrorResponse as error:
    said["gone"] = error.status_code
"""


def test_the_newer_classes_make_find_group_and_delete_devices(lab: SdkLab) -> None:
    for name in ("foundation-1", "foundation-2", "foundation-3"):
        lab.device(name)
    said = lab.run(FOUNDATION, key=lab.new_key(), fingerprint=FINGERPRINT)
    assert said["made"] == ["0001", "2030-01-02", "bootstrapped", 1]
    assert said["got"] == ["desk lamp", {"room": "13"}, False, "a lamp"]
    assert said["filtered"] and said["plain"] and said["newest"]
    assert said["all"] == said["count"] >= 4
    assert said["members"] and said["members count"] == 1 and said["left"] == []
    assert said["group"] == ["old lamps", {}, 0] and said["groups"] and said["group times"] and said["no group"] == 404
    assert said["events"][0] == "update.device.device-created" and said["event"] == [True, True, {}, {}]
    assert said["gone"] == 404
