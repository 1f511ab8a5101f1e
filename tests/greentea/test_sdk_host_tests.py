"""The host test of connect and update, against a board that is a script and a service that is a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from pdmlab.errors import ServiceError, TimedOut
from pdmlab.greentea import SdkHostTests, run_suite
from pdmlab.greentea.result import Result
from tests.greentea.scripted import ScriptedBoard, suite

DEVICE, OTHER = "d" * 32, "e" * 32
IMAGE = b"vectors spdmc_ready_chk and more"


class Table:
    """A service with one device, registered, and its resources."""

    account_id = "a" * 32

    def __init__(self) -> None:
        self.values = {"/5000/0/1": "test0", "/5000/0/2": "1"}
        self.executed: list[str] = []
        self.updates: list[bytes] = []
        self.finished: list[str] = []
        self.answers = True

    def state(self, device_id: str) -> str:
        return "registered" if device_id == DEVICE else "absent"

    def read(self, device_id: str, path: str) -> str:
        if not self.answers:
            raise TimedOut(f"GET {path}: nothing came in 30.0 s")
        return self.values[path]

    def write(self, device_id: str, path: str, value: str) -> None:
        self.values[path] = value

    def execute(self, device_id: str, path: str) -> None:
        if not self.answers:
            raise TimedOut(f"POST {path}: nothing came in 30.0 s")
        self.executed.append(path)

    def update(self, device_id: str, image: bytes) -> None:
        self.updates.append(image)

    def finish(self, device_id: str) -> None:
        self.finished.append(device_id)


def play(
    script: dict[str, list[str]], table: Table | None = None, *, first: str = "device_ready", **options: object
) -> tuple[Result, list[str]]:
    """Run a script: what the board sends when it hears a key (the first time, and not its copies)."""
    heard: list[str] = []

    def answers(line: str) -> Iterable[str]:
        if "__sync" in line and "mbed" in line:
            return suite(f"{{{{{first};1}}}}", host_test="sdk_host_tests")(line)
        if line in heard:
            heard.append(line)
            return []
        heard.append(line)
        return script.pop(line, [])

    make: Callable[[], SdkHostTests] = lambda: SdkHostTests(table or Table(), **options)  # type: ignore[arg-type]
    board = ScriptedBoard(answers)
    result = run_suite(board, "connect", sync_timeout=0.01, timeout=0.3, host_tests={"sdk_host_tests": make})
    return result, heard


END = ["{{end;success}}", "{{__exit;0}}"]


def test_connect_from_boot_to_boot() -> None:
    table = Table()
    result, heard = play(
        {
            "{{iteration;0}}": [f"{{{{verify_registration;{DEVICE}}}}}"],
            "{{registered;1}}": ["{{test_advance;0}}"],
            "{{reset;0}}": ["{{device_booted;1}}"],
            "{{__sync;0}}": ["{{device_ready;1}}"],
            "{{iteration;1}}": [f"{{{{verify_identity;{DEVICE}}}}}"],
            "{{verified;1}}": ["{{verify_lwm2m_get_test;/5000/0/1}}"],
            "{{get_value;test0}}": ["{{verify_lwm2m_put_test;/5000/0/2}}"],
            "{{res_set;6}}": ["{{verify_lwm2m_post_test;/5000/0/3}}", "{{verify_lwm2m_post_test_result;0}}"],
            "{{post_test_executed;0}}": END,
        },
        table,
    )
    assert result.result == "OK", result
    assert table.values["/5000/0/2"] == "6" and table.executed == ["/5000/0/3"]
    assert table.finished == [DEVICE]
    assert heard.count("{{iteration;0}}") == heard.count("{{registered;1}}") == 5


def test_another_identity_is_not_verified_and_both_devices_are_deleted() -> None:
    table = Table()
    result, _ = play(
        {
            "{{iteration;0}}": [f"{{{{verify_registration;{DEVICE}}}}}"],
            "{{registered;1}}": [f"{{{{verify_identity;{OTHER}}}}}"],
            "{{verified;0}}": ["{{end;failure}}", "{{__exit;0}}"],
        },
        table,
    )
    assert result.result == "FAIL"
    assert table.finished == [DEVICE, OTHER]
    assert result.notes == [f"the board was device {DEVICE}, and is now device {OTHER}"]


def test_what_the_device_does_not_answer_is_a_timeout() -> None:
    table = Table()
    table.answers = False
    result, heard = play(
        {
            "{{iteration;0}}": [f"{{{{verify_registration;{DEVICE}}}}}"],
            "{{registered;1}}": ["{{verify_lwm2m_set_test;/5000/0/1}}"],
            "{{timeout;0}}": ["{{verify_lwm2m_post_test;/5000/0/3}}", "{{verify_lwm2m_post_test_result;0}}", *END],
        },
        table,
    )
    assert heard.count("{{timeout;0}}") == 10
    assert not any("post_test_executed" in line for line in heard)
    assert result.notes[0] == "GET /5000/0/1: nothing came in 30.0 s"


def test_a_value_that_is_no_number_is_a_timeout_too() -> None:
    table = Table()
    table.values["/5000/0/2"] = "six"
    _, heard = play(
        {
            "{{iteration;0}}": [f"{{{{verify_registration;{DEVICE}}}}}"],
            "{{registered;1}}": ["{{verify_lwm2m_put_test;/5000/0/2}}"],
            "{{timeout;0}}": END,
        },
        table,
    )
    assert "{{timeout;0}}" in heard


def test_a_device_that_the_service_will_not_show_is_not_registered() -> None:
    class Refusing(Table):
        def state(self, device_id: str) -> str:
            raise ServiceError("GET /v3/devices: 403, not allowed", status=403)

    result, heard = play(
        {"{{iteration;0}}": [f"{{{{verify_registration;{DEVICE}}}}}"], "{{registered;0}}": ["{{test_failed;1}}"]},
        Refusing(),
    )
    assert "{{registered;0}}" in heard
    assert (result.result, result.reason) == ("FAIL", "the board says that a test failed")
    assert "403" in result.notes[0]


def test_a_failed_case_is_still_counted_after_test_failed() -> None:
    result, _ = play(
        {
            "{{iteration;0}}": [
                "{{__testcase_start;Initialize Simple PDMC }}",
                "[ERROR] Simple PDMC failed to initialize.",
                "{{test_failed;1}}",
                "{{__testcase_finish;Initialize Simple PDMC ;0;1}}",
            ]
        }
    )
    assert result.result == "FAIL"
    assert result.cases[["result", "message"]].to_numpy().tolist() == [["FAIL", "Simple PDMC failed to initialize."]]


def test_accounts_that_differ_end_it_before_anything() -> None:
    result, heard = play({}, account_id="b" * 32)
    assert result.result == "FAIL"
    assert result.reason == f"the board's credentials are of account {'b' * 32}, the API key is of account {'a' * 32}"
    assert heard == []


def test_a_board_that_boots_for_ever_is_stopped() -> None:
    script = {"{{iteration;0}}": ["{{device_ready;1}}"] * 5}
    result, _ = play(script)
    assert (result.result, result.reason) == ("FAIL", "the board has booted 6 times")


def test_update_replaces_the_key_in_the_image() -> None:
    table = Table()
    result, _ = play(
        {
            "{{iteration;0}}": [f"{{{{verify_registration;{DEVICE}}}}}"],
            "{{registered;1}}": ["{{firmware_prepare;1}}"],
            "{{firmware_sent;1}}": ["{{device_booted;1}}"],
            "{{__sync;0}}": ["{{firmware_update;1}}"],
            "{{iteration;1}}": [f"{{{{verify_identity;{DEVICE}}}}}"],
            "{{verified;1}}": END,
        },
        table,
        first="spdmc_ready_chk",
        update_image=lambda: IMAGE,
    )
    assert result.result == "OK", result
    assert table.updates == [b"vectors firmware_update and more"]
    assert "the new firmware has booted" in result.notes


def test_the_old_firmware_after_an_update_is_a_failure() -> None:
    result, _ = play(
        {
            "{{iteration;0}}": [f"{{{{verify_registration;{DEVICE}}}}}"],
            "{{registered;1}}": ["{{firmware_prepare;1}}"],
            "{{firmware_sent;1}}": ["{{spdmc_ready_chk;1}}"],
        },
        first="spdmc_ready_chk",
        update_image=lambda: IMAGE,
    )
    assert result.reason == "the board came back with its old firmware: the update was not applied"


@pytest.mark.parametrize(
    ("image", "why"),
    [(None, "there is no update image"), (b"another program", "does not hold 'spdmc_ready_chk'")],
)
def test_an_image_that_cannot_be_told_from_the_old_one_is_refused(image: bytes | None, why: str) -> None:
    result, _ = play(
        {
            "{{iteration;0}}": [f"{{{{verify_registration;{DEVICE}}}}}"],
            "{{registered;1}}": ["{{firmware_prepare;1}}"],
        },
        first="spdmc_ready_chk",
        update_image=None if image is None else lambda: image,
    )
    assert result.result == "FAIL" and why in result.reason
