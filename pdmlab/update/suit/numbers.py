"""The labels of SUIT's maps and sequences, as IANA's registry has them (iana.org/assignments/suit, of 2026-02-17).

They are those of draft-ietf-suit-manifest-34; drafts before 18 had others for the sequences.
"""

from __future__ import annotations

from enum import IntEnum

TAG = 107
"""CBOR tag of a SUIT envelope."""
COSE_SIGN1 = 18
ES256 = -7
SHA256 = -16
MANIFEST_VERSION = 1


class Member(IntEnum):
    """Members of an envelope; those from 15 on are severable: their digest may stand in the manifest instead."""

    AUTHENTICATION = 2
    MANIFEST = 3
    DEPENDENCY_RESOLUTION = 15
    PAYLOAD_FETCH = 16
    CANDIDATE_VERIFICATION = 18
    INSTALL = 20
    TEXT = 23


class Key(IntEnum):
    """Elements of a manifest."""

    VERSION = 1
    SEQUENCE_NUMBER = 2
    COMMON = 3
    REFERENCE_URI = 4
    COMPONENT_ID = 5
    VALIDATE = 7
    LOAD = 8
    INVOKE = 9
    DEPENDENCY_RESOLUTION = 15
    PAYLOAD_FETCH = 16
    CANDIDATE_VERIFICATION = 18
    INSTALL = 20
    TEXT = 23


class Common(IntEnum):
    """Elements of suit-common."""

    DEPENDENCIES = 1
    COMPONENTS = 2
    SHARED_SEQUENCE = 4


class Command(IntEnum):
    """Conditions and directives."""

    VENDOR_IDENTIFIER = 1
    CLASS_IDENTIFIER = 2
    IMAGE_MATCH = 3
    COMPONENT_SLOT = 5
    CHECK_CONTENT = 6
    SET_COMPONENT_INDEX = 12
    ABORT = 14
    TRY_EACH = 15
    WRITE = 18
    OVERRIDE_PARAMETERS = 20
    FETCH = 21
    COPY = 22
    INVOKE = 23
    DEVICE_IDENTIFIER = 24
    SWAP = 31
    RUN_SEQUENCE = 32


class Parameter(IntEnum):
    """What directives and conditions work with, component by component."""

    VENDOR_IDENTIFIER = 1
    CLASS_IDENTIFIER = 2
    IMAGE_DIGEST = 3
    COMPONENT_SLOT = 5
    STRICT_ORDER = 12
    SOFT_FAILURE = 13
    IMAGE_SIZE = 14
    CONTENT = 18
    URI = 21
    SOURCE_COMPONENT = 22
    INVOKE_ARGS = 23
    DEVICE_IDENTIFIER = 24


class Text(IntEnum):
    """What a manifest's text says of a component."""

    VENDOR_NAME = 1
    MODEL_NAME = 2
    VENDOR_DOMAIN = 3
    MODEL_INFO = 4
    DESCRIPTION = 5
    VERSION = 6


REPORT_ALL = 15
"""Reporting policy of a condition: record whether it holds or not, and what it was held against."""
REPORT_FAILURE = 2
"""Reporting policy of a directive: record that it failed."""
