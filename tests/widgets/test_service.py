"""Views of a service over its REST API: what they show of a real one, live and still."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest

from pdmlab import Cloud, widgets
from pdmlab.service import Service, serve
from tests.page.devices import registered
from tests.service.restlab import Device


@pytest.fixture(scope="module")
def service(_no_settings_of_yours: None) -> Iterator[Service]:
    with serve(name="widgets") as service:
        yield service


@pytest.fixture
def cloud(service: Service) -> Iterator[Cloud]:
    with Cloud(service.url, service.api_key) as cloud:
        yield cloud


@pytest.fixture(scope="module")
def desk(service: Service) -> Iterator[Device]:
    device = registered(service, "desk-<1>")
    yield device
    device.close()


def test_devices_are_found_by_part_of_a_name_and_by_state(cloud: Cloud, desk: Device) -> None:
    view = widgets.devices(cloud)
    assert "desk-&lt;1&gt;" in view.table.value and "registered" in view.table.value
    view.search.value = "DESK-"
    assert "desk-&lt;1&gt;" in view.table.value
    view.search.value = "bench["
    assert "no device is like that" in view.table.value
    view.search.value = ""
    view.state.value = "registered"
    assert desk.id in view.table.value and desk.id in view._repr_mimebundle_()["text/html"]
    view.close()


def test_events_are_of_one_device_or_of_all_the_latest_first(cloud: Cloud, desk: Device) -> None:
    of_one, of_all = widgets.events(cloud.device(desk.id)), widgets.events(cloud)
    for view in (of_one, of_all):
        assert 0 < view.table.value.index("device-registered") < view.table.value.index("device-created")
        view.close()


def test_messages_of_a_device_come_over_rest_and_go_on(cloud: Cloud, desk: Device) -> None:
    view = widgets.messages(cloud.device(desk.id))
    assert "Log of device" in view.table.value and "2.01 Created" in view.table.value
    assert "2.05 Content" not in view.table.value
    cloud.device(desk.id).read("/3/0/0")
    assert view.look() and "2.05 Content" in view.table.value
    view.close()


def test_a_service_that_is_gone_ends_the_view_with_a_reason() -> None:
    with serve(name="gone") as gone, Cloud(gone.url, gone.api_key) as cloud:
        view = widgets.messages(cloud)
        gone.close()
        assert not view.look() and "/lab/log: " in view.failures.value
        view.close()


def test_credentials_are_a_download_that_is_not_in_the_still_picture(cloud: Cloud, service: Service) -> None:
    view = widgets.credentials(cloud)
    view.work()
    assert "<pre>" in view.problem.value and view.file.value == ""
    view.name.value = "board <1>"
    view.work()
    assert view.problem.value == "" and "of <b>board &lt;1&gt;</b>" in view.file.value
    data = view.file.value.partition("base64,")[2].partition("'")[0]
    assert f'MBED_CLOUD_DEV_ACCOUNT_ID[] = "{service.account_id}";' in base64.b64decode(data).decode()
    assert data not in view._repr_mimebundle_()["text/html"]
    view.close()
    assert view.file.value == ""


def test_a_service_in_tabs_shows_a_device_closely(cloud: Cloud, desk: Device) -> None:
    view = widgets.service(cloud)
    assert list(view.tabs.titles) == ["Devices", "One device", "Campaigns", "Events", "Messages", "Credentials"]
    one = view.views["One device"]
    assert one.chosen.value == desk.id
    rows = one._views[0].rows
    rows["/3/0/0"]._try(rows["/3/0/0"]._read)
    assert rows["/3/0/0"].value.value == "pdmlab"
    still = view._repr_mimebundle_()["text/html"]
    assert "<h4>Campaigns</h4>" in still and "there is no campaign" in still and "pdmlab" in still
    assert "nothing waits for the device" in still and "desk-&lt;1&gt;" in still
    view.close()
    assert view.views["Devices"]._ended.is_set() and one._views[1]._ended.is_set()


def test_without_a_registered_device_the_view_says_so() -> None:
    with serve(name="empty") as empty, Cloud(empty.url, empty.api_key) as cloud:
        view = widgets.service(cloud)
        assert "no device is registered" in view.views["One device"].problem.value
        view.close()
