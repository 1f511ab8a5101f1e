"""A board at the service: waiting for its registration, and questions that wait for it."""

import pandas as pd
import pytest

from pdmlab import measurements
from pdmlab.errors import RegistrationFailed, TimedOut


class Client:
    """A client that registers at the nth look."""

    def __init__(self, looks):
        self.looks = looks
        self.error_description = "the bootstrap server answered 4.00"

    def is_client_registered(self):
        self.looks -= 1
        return self.looks <= 0


class Board:
    """A board that runs what it is given."""

    def run(self, application):
        return application()


def test_the_client_is_returned_when_it_has_registered():
    client = Client(3)
    assert measurements.run_until_registered(Board(), lambda: client) is client and client.looks == 0


def test_a_client_that_does_not_register_says_why():
    with pytest.raises(RegistrationFailed, match=r"after 0\.05 s .*4\.00") as failed:
        measurements.run_until_registered(Board(), lambda: Client(1_000_000), timeout=0.05)
    assert "client.log" in str(failed.value)


class Device:
    """A device that answers one path, and whose queue has both."""

    def read(self, path, *, timeout):
        if path == "/3/0/0":
            return "maker"
        raise TimedOut(f"GET {path}: nothing came")

    def queue(self):
        return pd.DataFrame([{"request": "GET /3/0/0"}, {"request": "GET /3/0/1"}])


def test_questions_are_rows_with_their_times_and_answers():
    asked = measurements.ask(Device(), ["/3/0/0", "/3/0/1"])
    assert len(asked.wait_until_queued()) == 2
    answers = asked.answers()
    assert list(answers["answer"]) == ["maker", "GET /3/0/1: nothing came"]
    assert list(answers["step"]) == ["GET /3/0/0", "GET /3/0/1"] and (answers["duration_ms"] >= 0).all()
    assert set(answers["clock"]) == {"host"}
