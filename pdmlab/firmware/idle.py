"""The application of a fresh board: blinks and answers lines on the serial line, so that a terminal shows life."""

from __future__ import annotations

from pdmlab.firmware.device import Device


def idle(device: Device) -> None:
    """Greet, then answer every line; `help` lists what there is to see."""
    device.uart.write(f"pdmlab {device.image} on {device.target}. Type 'help'.\r\n")
    while True:
        line = device.uart.readline()
        if line is None:
            return
        device.uart.write(_answer(device, line.strip()) + "\r\n")


def _answer(device: Device, line: str) -> str:
    match line.split():
        case []:
            return ""
        case ["help"]:
            return "help, version, uptime, reset"
        case ["version"]:
            return str(device.image)
        case ["uptime"]:
            return f"{device.clock.now() / 1e9:.3f} s ({device.clock.name} clock)"
        case ["reset"]:
            device.uart.write("restarting\r\n")
            device.reset()
        case _:
            return f"unknown command {line!r}; try 'help'"
