"""Values as they come from the service."""

from __future__ import annotations

import base64

import pytest

from pdmlab.cloud.values import decode, encode
from pdmlab.errors import ServiceError
from pdmlab.lwm2m import tlv

TLV = "application/vnd.oma.lwm2m+tlv"


def coded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(
    ("data", "kind", "path", "value"),
    [
        (b"23.5", "text/plain", "/3303/0/5700", "23.5"),
        (b"23.5", None, "/3303/0/5700", "23.5"),
        (b"\xff\x00", "text/plain", "/5000/0/1", b"\xff\x00"),
        (b"abc", "application/octet-stream", "/5000/0/1", b"abc"),
        (b"", None, "/3/0/4", ""),
        (tlv.encode([tlv.resource(0, b"ARM"), tlv.resource(9, b"\x61")]), TLV, "/3/0", {0: "ARM", 9: 97}),
        (
            tlv.encode([tlv.object_instance(0, [tlv.resource(0, b"ARM"), tlv.resource(200, b"?")])]),
            TLV,
            "/3",
            {0: {0: "ARM", 200: b"?"}},
        ),
        (tlv.encode([tlv.multiple(11, [(0, b"\x00"), (1, b"\x05")])]), TLV, "/3/0/11", {0: 0, 1: 5}),
        (b"\xc8", TLV, "/3/0", b"\xc8"),
    ],
)
def test_a_value_is_what_its_format_says(data: bytes, kind: str | None, path: str, value: object) -> None:
    assert decode(coded(data), kind, path) == value


def test_what_is_no_base64_is_an_error() -> None:
    with pytest.raises(ServiceError):
        decode("*", None, "/3/0/0")


@pytest.mark.parametrize(
    ("value", "data", "kind"),
    [
        ("x", b"x", "text/plain"),
        (5, b"5", "text/plain"),
        (2.5, b"2.5", "text/plain"),
        (True, b"1", "text/plain"),
        (b"\x00", b"\x00", "application/octet-stream"),
    ],
)
def test_values_go_out_as_text_and_bytes_as_they_are(value: object, data: bytes, kind: str) -> None:
    assert encode(value) == (data, kind)  # type: ignore[arg-type]
