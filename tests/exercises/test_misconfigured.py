"""Boards with credentials that are wrong in one place get exactly as far as the exercise says."""

from __future__ import annotations

import time

import pytest

import pdmlab
from pdmlab.exercises.misconfigured import Fault, misconfigure, names_the_last_step


@pytest.mark.slow
def test_each_fault_stops_a_board_where_it_is_said_to() -> None:
    with pdmlab.serve(name="misconfigured") as service, pdmlab.connect("sim://K64F?memory=9") as desk:
        for seed, kinds in ((1, ["unknown CA"]), (2, ["unknown CA"]), (3, [])):
            fault = misconfigure(service.credentials(), seed=seed)
            mark = service.log.mark
            with desk.scratch(seed=seed) as stuck:
                stuck.flash_application("example", credentials=fault.credentials)
                stuck.console.expect("Error details", timeout=20)
                end = time.monotonic() + 60
                while len(service.log.since(mark)) < 2 * len(kinds) and time.monotonic() < end:
                    time.sleep(0.01)  # the alert is still on its way
            heard = service.log.since(mark)
            assert [failure.kind for failure in heard.failures()] == kinds
            # The handshake is what it died in: TCP was there, and nothing was said over TLS.
            assert {row.code for row in heard} <= {"handshake started", "handshake failed"}
            assert bool(len(heard)) == (fault.last_step == "TCP connected")
            assert all("alert unknown_ca (48)" in failure.happened for failure in heard.failures())


@pytest.mark.parametrize("alert", ["unknown_ca", "Unknown CA", "48", " unknown-ca "])
def test_an_alert_may_be_named_as_people_do(alert: str) -> None:
    judge = names_the_last_step(Fault(None, "TCP connected", "unknown_ca"))  # type: ignore[arg-type]
    assert judge(("TCP connected", alert)) is True
    assert judge(("TCP connected", "bad_certificate")) is not True
    assert judge(("registered", alert)) == "It did not get that far."
    assert judge(("network connected", alert)) == "It got further."


def test_who_never_got_an_answer_saw_no_alert() -> None:
    judge = names_the_last_step(Fault(None, "network connected", ""))  # type: ignore[arg-type]
    assert judge(("network connected", "")) is True
    assert judge(("network connected", "unknown_ca")) is not True
