"""Views of devices: buttons call what a program would call, and errors are shown."""

import contextlib
import threading

import pandas as pd
import pytest

from pdmlab import widgets
from pdmlab.errors import ServiceError, TimedOut


class Device:
    """A device that answers at once."""

    id = "0" * 32

    def __init__(self):
        self.values = {"/3201/0/5853": "on", "/5000/0/2": ""}
        self.executed = []
        self.waiting = pd.DataFrame(
            [{"request": "GET /3/0/0", "state": "queued", "why": "asleep", "since": "now", "until": "later"}]
        )
        self.notes = []
        self.observed = threading.Event()

    def resources(self):
        return pd.DataFrame([{"path": path, "name": f"name of {path}"} for path in self.values])

    def read(self, path):
        if path == "/5000/0/2":
            raise ServiceError("GET /5000/0/2: 405", status=405, hint="methods() decides")
        return self.values[path]

    def write(self, path, value):
        self.values[path] = value

    def execute(self, path):
        self.executed.append(path)

    def queue(self):
        return self.waiting

    @contextlib.contextmanager
    def observe(self, path):
        yield self
        self.notes.append("ended")

    @property
    def seen(self):
        return [type("Note", (), {"value": "seen"})()]

    def next(self, timeout):
        self.observed.set()
        raise TimedOut("nothing")


@pytest.fixture
def view():
    view = widgets.resources(Device())
    # Threads are for slow devices; this one answers at once, so that nothing has to be waited for.
    for row in view.rows.values():
        row._start = row._try
    yield view
    view.close()


def test_r_reads_w_writes_and_exe_executes(view):
    device, row = view._device, view.rows["/3201/0/5853"]
    row.read.click()
    assert row.value.value == "on"
    row.value.value = "off"
    row.write.click()
    row.execute.click()
    assert device.values["/3201/0/5853"] == "off" and device.executed == ["/3201/0/5853"]


def test_what_was_read_stands_in_the_still_table(view):
    view.read()
    assert "<td>on</td>" in view._repr_mimebundle_()["text/html"]
    assert "405" in view.problem.value  # of /5000/0/2, which cannot be read


def test_a_refusal_is_shown_with_its_hint(view):
    view.rows["/5000/0/2"].read.click()
    assert "405" in view.problem.value and "methods() decides" in view.problem.value
    view.rows["/3201/0/5853"].read.click()
    assert not view.problem.value


def test_obs_observes_until_it_is_pressed_again():
    device = Device()
    view = widgets.resources(device, paths=["/3201/0/5853"])
    row = view.rows["/3201/0/5853"]
    row.observing.value = True
    assert device.observed.wait(10)
    assert row.value.value == "seen"
    view.close()
    for thread in [each for each in threading.enumerate() if each.name == "pdmlab-view"]:
        thread.join(10)
    assert device.notes == ["ended"]


def test_without_a_kernel_it_is_a_table(view):
    html = view._repr_mimebundle_()["text/html"]
    assert "<td><code>/3201/0/5853</code></td>" in html and "<table>" in html


def test_the_queue_is_a_table_that_follows():
    device = Device()
    view = widgets.queue(device)
    assert "asleep" in view.table.value
    device.waiting = device.waiting.iloc[:0]
    assert view.look() and "nothing waits" in view.table.value
    view.close()


def test_the_queue_says_when_the_service_is_gone():
    device = Device()
    view = widgets.queue(device)

    def gone():
        raise ServiceError("no answer", status=503)

    view._look = gone
    assert not view.look() and "no answer" in view.problem.value and "asleep" in view.table.value
    view.close()
