"""What each driver answers to each thing that can be broken on its part: Mbed's codes, and its silences."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pdmlab import explain
from pdmlab.errors import StorageError
from pdmlab.storage import (
    DataFlashBlockDevice,
    FlashIAPBlockDevice,
    Medium,
    MediumFaults,
    QSPIFBlockDevice,
    SDBlockDevice,
    SPIFBlockDevice,
)
from pdmlab.storage.driver import MediumDevice

DRIVERS: dict[str, Callable[[], MediumDevice]] = {
    "SD": lambda: SDBlockDevice(Medium(1 << 20, erase_value=0)),
    "SPIF": lambda: SPIFBlockDevice(Medium(1 << 20)),
    "QSPIF": lambda: QSPIFBlockDevice(Medium(1 << 20)),
    "DataFlash": lambda: DataFlashBlockDevice(Medium(512 * 512)),
    "FlashIAP": lambda: FlashIAPBlockDevice(Medium(1 << 20)),
}
BREAK: dict[str, Callable[[MediumFaults], None]] = {
    "not seated": lambda faults: faults.pull_card(),
    "no answer": lambda faults: faults.lose_contact(),
    "stuck busy": lambda faults: faults.stick_busy(),
    "busy 100 ms": lambda faults: faults.stick_busy(0.1),
    "write protected": lambda faults: faults.lock_card(),
    "read error": lambda faults: faults.bad_block(0, "readerror"),
    "program error": lambda faults: faults.bad_block(0, "progerror"),
    "erase error": lambda faults: faults.bad_block(0, "eraseerror"),
    "worn out": lambda faults: faults.wear_out(0),
}
CALLS: dict[str, Callable[[MediumDevice], object]] = {
    "init": lambda device: device.init(),
    "read": lambda device: device.read(0, 512),
    "reads": lambda device: device.read(0, 1024),
    "program": lambda device: device.program(0, bytes(512)),
    "programs": lambda device: device.program(0, bytes(1024)),
    "erase": lambda device: device.erase(0, device.get_erase_size(0)),
}
# A card's CMD18 and CMD25 leave the status OK when a block in their middle fails, and its erase does nothing; flash
# chips that are not there read as zeros; only the internal flash needs no init to be found missing.
ANSWERS = """
                           init   read  reads  program programs erase
    SD  not seated        -5005  -5005  -5005  -5005  -5005      .
    SD  no answer         -5005  -5005  -5005  -5005  -5005      .
    SD  stuck busy        -5005  -5008      .  -5011      .      .
    SD  busy 100 ms           .      .      .      .      .      .
    SD  write protected       .      .      .  -5011      .      .
    SD  read error            .  -5008      .      .      .      .
    SD  program error         .      .      .  -5011      .      .
    SD  erase error           .      .      .      .      .      .
    SD  worn out              .      .      .  -5011      .      .
    SPIF  no answer       -4002      .      .  -4004  -4004  -4003
    SPIF  stuck busy      -4001      .      .  -4004  -4004  -4003
    SPIF  busy 100 ms         .      .      .      .      .      .
    SPIF  write protected     .      .      .  -4001  -4001  -4001
    SPIF  read error          .  -4001  -4001      .      .      .
    SPIF  program error       .      .      .  -4001  -4001      .
    SPIF  erase error         .      .      .      .      .  -4001
    SPIF  worn out            .      .      .  -4001  -4001  -4001
    QSPIF  no answer      -4002      .      .  -4004  -4004  -4004
    QSPIF  stuck busy     -4003      .      .  -4004  -4004  -4004
    QSPIF  busy 100 ms        .      .      .      .      .      .
    QSPIF  write protected    .      .      .  -4001  -4001  -4001
    QSPIF  read error         .  -4001  -4001      .      .      .
    QSPIF  program error      .      .      .  -4001  -4001      .
    QSPIF  erase error        .      .      .      .      .  -4001
    QSPIF  worn out           .      .      .  -4001  -4001  -4001
    DataFlash  no answer  -4001      .      .  -4001  -4001  -4001
    DataFlash  stuck busy -4001      .      .  -4001  -4001  -4001
    DataFlash  write protected .     .      .  -4001  -4001  -4001
    DataFlash  read error     .  -4001  -4001      .      .      .
    DataFlash  program error  .      .      .  -4001  -4001      .
    DataFlash  erase error    .      .      .      .      .  -4001
    DataFlash  worn out       .      .      .  -4001  -4001  -4001
    FlashIAP  stuck busy      .  -4001  -4001  -4001  -4001  -4001
    FlashIAP  write protected .      .      .  -4001  -4001  -4001
    FlashIAP  read error      .  -4001  -4001      .      .      .
    FlashIAP  program error   .      .      .  -4001  -4001      .
    FlashIAP  erase error     .      .      .      .      .  -4001
    FlashIAP  worn out        .      .      .  -4001  -4001  -4001
"""
ROWS = [line.split() for line in ANSWERS.strip().splitlines()[1:]]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: " ".join(row[: -len(CALLS)]))
def test_a_broken_part_is_answered_with_mbeds_code(row: list[str]) -> None:
    driver, fault = row[0], " ".join(row[1 : -len(CALLS)])
    answers: list[str] = []
    for name, call in CALLS.items():
        device = DRIVERS[driver]()
        if name != "init":
            device.init()
        BREAK[fault](MediumFaults.of(device.medium))
        try:
            call(device)
        except StorageError as error:
            assert error.hint and f", {error.code})" in str(error)
            assert str(error.code) in repr(explain(error.code))
            answers.append(str(error.code))
        else:
            answers.append(".")
    assert answers == row[-len(CALLS) :]


def test_every_driver_is_held_to_every_fault_that_it_can_meet() -> None:
    met = {(row[0], " ".join(row[1 : -len(CALLS)])) for row in ROWS}
    soldered = {(driver, fault) for driver in DRIVERS for fault in BREAK} - met
    assert soldered == {
        ("SPIF", "not seated"), ("QSPIF", "not seated"), ("DataFlash", "not seated"), ("FlashIAP", "not seated"),
        ("FlashIAP", "no answer"),
        ("DataFlash", "busy 100 ms"), ("FlashIAP", "busy 100 ms"),  # shorter or longer than their few looks
    }  # fmt: skip


def test_a_card_pulled_in_mid_write_is_found_missing_and_must_be_initialised_again() -> None:
    device = DRIVERS["SD"]()
    device.init()
    faults = MediumFaults.of(device.medium)
    faults.pull_card(after=2)
    device.program(0, b"x" * 512 * 4)  # the loop breaks off, and Mbed's status stays OK
    assert device.medium.peek(0, 2048).count(b"x") in range(256, 1024)
    with pytest.raises(StorageError, match="-5005"):
        device.read(0, 512)
    faults.seat_card()
    with pytest.raises(StorageError, match="-5005"):
        device.read(0, 512)
    device.deinit()
    device.init()
    assert device.read(0, 512)[:256] == b"x" * 256
