"""What the service's parts raise when they do not do what a caller asked; REST answers with it as it is."""

from __future__ import annotations

from pdmlab.errors import ServiceError


class Refused(ServiceError):
    """A caller asked for what cannot be; `status` is the HTTP status, `type` the vendor's word for it.

    In v2 the message is one of the vendor's tokens (RESOURCE_NOT_FOUND), and the hint is the sentence.
    """

    def __init__(self, status: int, message: str, *, type: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, status=status, problem={"type": type} if type else None, hint=hint)


def not_found(what: str, id: str) -> Refused:
    """Return the 404 for a thing that this account has not."""
    return Refused(404, f"there is no {what} {id[:64]}", type="not_found")
