"""Every error that pdmlab raises: one tree, and a hint with each.

```
PdmlabError
├── ConfigError                    a setting, URL or file that says something impossible
├── BoardError
│   ├── BoardNotFound              nothing answers to that name or port
│   ├── PortBusy                   another program or kernel holds the port or the board
│   ├── ConsoleTimeout             the awaited line did not come
│   ├── UnexpectedReset            the board restarted in mid-conversation
│   └── FlashFailed                the image could not be written
├── StorageError(code)             carries Mbed's own error code
│   ├── NotMounted
│   ├── NoSpace
│   ├── CorruptMedium
│   ├── WornOut
│   ├── WriteOnce
│   └── RollbackRefused
├── NetworkError                   may carry Mbed's own NSAPI code
│   ├── Unreachable
│   │   └── HandshakeFailed(reason) TLS or DTLS could not be agreed on
│   ├── TimedOut
│   └── WouldBlock                 a non-blocking socket has nothing yet
├── Lwm2mError
│   ├── BootstrapFailed
│   ├── RegistrationFailed
│   └── ResponseError(code, path)  the peer answered with a CoAP error code
├── UpdateError
│   ├── ManifestRejected(result)   carries the client's result code (21-49)
│   ├── ImageRejected
│   └── BootFailed
├── ServiceError(status, problem)  the REST API answered with an error
├── ExperimentError
│   ├── RunNotFound
│   ├── NotMeasurable              a point of a sweep that cannot be: it is skipped, and why is kept
│   └── BadMeasurement             a row that its schema refuses
└── GreenteaError
    ├── SyncFailed
    ├── ConsoleLost
    └── MalformedEvent
```

`str(error)` is what happened, to what, after how long; then, on a line of its own, the hint.
"""

from __future__ import annotations

from typing import Any


def _again(kind: type[PdmlabError], state: dict[str, Any]) -> PdmlabError:
    error = kind.__new__(kind, state["message"])
    error.__dict__.update(state)
    return error


class PdmlabError(Exception):
    """The root of the tree; `hint` says what to try next."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        """Let errors come back from other processes, whatever their constructors ask for."""
        return _again, (type(self), self.__dict__)

    def _render_traceback_(self) -> list[str]:
        """Show a notebook reader the sentence and the hint; the cause stays in __cause__."""
        lines = [f"{type(self).__name__}: {self.message}"]
        if self.__cause__ is not None:
            lines.append(f"caused by {type(self.__cause__).__name__}: {self.__cause__}")
        if self.hint:
            lines.append(f"hint: {self.hint}")
        return lines


class ConfigError(PdmlabError):
    """A setting, URL or file says something impossible."""


class BoardError(PdmlabError):
    """A board, or the line to it, did not do what was asked."""


class BoardNotFound(BoardError):
    """Nothing answers to that name or port."""


class PortBusy(BoardError):
    """Another program or kernel holds the port, or the board's state directory."""


class ConsoleTimeout(BoardError):
    """The awaited line did not come in time."""


class UnexpectedReset(BoardError):
    """The board restarted in the middle of a conversation."""


class FlashFailed(BoardError):
    """The image could not be written to the board."""


class StorageError(PdmlabError):
    """A block device, file system or store refused; `code` is Mbed's own (negative) number."""

    def __init__(self, message: str, *, code: int = 0, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code


class NotMounted(StorageError):
    """The file system is not mounted."""


class NoSpace(StorageError):
    """The medium is full."""


class CorruptMedium(StorageError):
    """What lies on the medium is not what the format requires."""


class WornOut(StorageError):
    """The medium no longer takes erases or programs."""


class WriteOnce(StorageError):
    """The key was stored write-once and is already there."""


class RollbackRefused(StorageError):
    """The stored item is older than its rollback protection."""


class NetworkError(PdmlabError):
    """The network did not carry what was sent; `code` is Mbed's own (negative) number, 0 if it has none."""

    def __init__(self, message: str, *, code: int = 0, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code


class Unreachable(NetworkError):
    """No route, refused, or no interface."""


class HandshakeFailed(Unreachable):
    """TLS or DTLS could not be agreed on.

    reason  is a short name: "unknown CA", "certificate in the future", "certificate expired", "no certificate",
            "no common suite", "unknown identity", "wrong key", "timed out", …
    alert   is the number of the alert that was sent or received (RFC 5246 section 7.2), None without one
    """

    def __init__(
        self, message: str, *, reason: str = "", alert: int | None = None, code: int = 0, hint: str | None = None
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.reason = reason
        self.alert = alert


class TimedOut(NetworkError):
    """No answer in time."""


class WouldBlock(NetworkError):
    """A non-blocking socket has nothing to give, or no room to take."""


class Lwm2mError(PdmlabError):
    """The device-management protocol failed."""


class BootstrapFailed(Lwm2mError):
    """The bootstrap server refused, or its sequence was broken off."""


class RegistrationFailed(Lwm2mError):
    """The LwM2M server refused the registration."""


class ResponseError(Lwm2mError):
    """The peer answered `path` with the CoAP error `code`, such as "4.04 Not Found"."""

    def __init__(self, message: str, *, code: str, path: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.path = path


class UpdateError(PdmlabError):
    """A firmware update failed."""


class ManifestRejected(UpdateError):
    """The device refuses the manifest; `result` is what it reports on /10252/0/3 (21-49)."""

    def __init__(self, message: str, *, result: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.result = result


class ImageRejected(UpdateError):
    """The firmware image is not what its header or manifest promised."""


class BootFailed(UpdateError):
    """The bootloader found nothing that it may start."""


class ServiceError(PdmlabError):
    """The REST API answered with `status`; `problem` is its JSON error body."""

    def __init__(
        self, message: str, *, status: int, problem: dict[str, Any] | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.problem = problem or {}

    @property
    def type(self) -> str:
        """The API's word for what is wrong, such as not_found; empty where it gave none."""
        return str(self.problem.get("type", ""))

    @property
    def request_id(self) -> str:
        """What finds the request in the service's log; empty where it was not told."""
        return str(self.problem.get("request_id", ""))


class ExperimentError(PdmlabError):
    """An experiment could not be run, stored or found."""


class RunNotFound(ExperimentError):
    """There is no run of that name."""


class NotMeasurable(ExperimentError):
    """A point of a sweep cannot be; a measuring function raises it to have the point skipped, with why."""


class BadMeasurement(ExperimentError):
    """A row does not fit its schema."""


class GreenteaError(PdmlabError):
    """A Greentea conversation went wrong."""


class SyncFailed(GreenteaError):
    """The board never echoed {{__sync}}."""


class ConsoleLost(GreenteaError):
    """The serial line closed in the middle of a suite."""


class MalformedEvent(GreenteaError):
    """A key-value line cannot be what it claims to be."""
