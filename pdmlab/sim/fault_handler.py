"""What Mbed OS prints when the processor faults or an application fails: so that a board says why it stands still.

The frame of the report (banners, field names, `0x80FF013D` for a hard fault) is that of Mbed OS 5.10 and
newer, platform/mbed_fault_handler.c and mbed_error.c.
"""

from __future__ import annotations

import struct

HARD_FAULT_STATUS = 0x80FF013D
"""MBED_ERROR_HARDFAULT_EXCEPTION: type system, module unknown (255), code 317."""
UNKNOWN_ERROR_STATUS = 0x80FF0100
"""MBED_ERROR_UNKNOWN: module unknown (255), code 256; what an uncaught exception ends in."""


def hard_fault(vectors: bytes) -> str:
    """Return the report of a fault on jumping into an image that starts with these 8 bytes."""
    stack, entry = struct.unpack("<II", vectors[:8].ljust(8, b"\xff"))
    registers = {"SP": stack, "LR": 0xFFFFFFF9, "PC": entry & ~1, "xPSR": 0x01000000, "PSP": 0, "MSP": stack}
    lines = ["", "++ MbedOS Fault Handler ++", "", "FaultType: HardFault", "", "Context:"]
    lines += [f"{name:<5}: {value & 0xFFFFFFFF:08X}" for name, value in registers.items()]
    lines += ["Mode : Thread", "Priv : Privileged", "Stack: MSP", "", "-- MbedOS Fault Handler --", ""]
    return _lines(lines) + error_info(HARD_FAULT_STATUS, "Fault exception", location=entry & ~1)


def error_info(status: int, message: str, *, location: int) -> str:
    """Return Mbed's error report: status with its code and module, message, location."""
    return _lines(
        [
            "",
            "++ MbedOS Error Info ++",
            f"Error Status: 0x{status:08X} Code: {status & 0xFFFF} Module: {status >> 16 & 0xFF}",
            f"Error Message: {message}",
            f"Location: 0x{location & 0xFFFFFFFF:X}",
            "Error Value: 0x0",
            "-- MbedOS Error Info --",
            "",
        ]
    )


def _lines(lines: list[str]) -> str:
    return "".join(f"{line}\r\n" for line in lines)
