"""How a build of the client writes its candidates: at once, in pages, encrypted, signed. Its mbed_app.json says it.

    fota.resume-support        FOTA_RESUME_SUPPORT_RESUME: pages with a checksum; else the image lies at once
    fota.encryption-support    1: encrypted pages
    fota.key-encryption        FOTA_USE_DEVICE_KEY, or FOTA_USE_ENCRYPTED_ONE_TIME_FW_KEY (unless it says otherwise)
    fota.candidate-block-size  of a page, 1024 B
    fota.signed-image-support  1: headers with the image's signature

The names are those of mbed-cloud-client 4.13, fota/mbed_lib.json; the last one is a macro there,
MBED_CLOUD_CLIENT_FOTA_SIGNED_IMAGE_SUPPORT. Its default for the first is pages with a checksum, ours is the image at
once, which bootloaders for internal flash take.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pdmlab.errors import ConfigError, ImageRejected
from pdmlab.update.header import FirmwareHeader
from pdmlab.update.pages import PAGE_SIZE, ChecksummedPages, EncryptedPages, Pages
from pdmlab.update.payloads.blocks import BlockCipher, unwrap_key, wrap_key

Encryption = Literal["device key", "one-time key"]
OPTION = "fota"
"""Where an image's options keep them."""
_RESUME = {"FOTA_RESUME_UNSUPPORTED": False, "FOTA_RESUME_SUPPORT_RESTART": False, "FOTA_RESUME_SUPPORT_RESUME": True}
_KEYS: dict[str, Encryption] = {
    "FOTA_USE_DEVICE_KEY": "device key",
    "FOTA_USE_ENCRYPTED_ONE_TIME_FW_KEY": "one-time key",
}
_NAMES = ("resume-support", "encryption-support", "key-encryption", "candidate-block-size", "signed-image-support")


@dataclass(frozen=True)
class CandidateForm:
    """What candidates look like; checksummed pages are those without encryption, page_size (B) is for both kinds."""

    checksummed: bool = False
    encryption: Encryption | None = None
    page_size: int = PAGE_SIZE
    signed: bool = False

    @classmethod
    def of_options(cls, options: Mapping[str, Any]) -> CandidateForm:
        """Read what an mbed_app.json says under the names above, without "fota.".

        Raises:
            ConfigError: it says something that they cannot be.
        """
        for name in options:
            if name not in _NAMES:
                raise ConfigError(f"fota.{name} is no option of the client's", hint=f"one of {', '.join(_NAMES)}")
        resume = _one_of(options, "resume-support", _RESUME, default=False)
        key = _one_of(options, "key-encryption", _KEYS, default="one-time key")
        size = options.get("candidate-block-size", PAGE_SIZE)
        if not isinstance(size, int) or not 64 <= size <= 0x8000 or size % 8:
            raise ConfigError(f"fota.candidate-block-size is {size!r}", hint="a multiple of 8 from 64 to 32768 B")
        encrypted = _switch(options, "encryption-support")
        return cls(resume, key if encrypted else None, size, _switch(options, "signed-image-support"))

    @classmethod
    def of_image(cls, options: Mapping[str, Any]) -> CandidateForm:
        """Read what a build keeps of it among its image's options; without a word, the default.

        Raises:
            ConfigError: it is something that they cannot be.
        """
        kept = options.get(OPTION)
        return cls.of_options(kept if isinstance(kept, Mapping) else {})

    def require_whole_units(self, unit: int) -> None:
        """Refuse pages that are not made of whole program units of a medium (B): what pads them is taken for data.

        Raises:
            ConfigError: they are not.
        """
        if (self.checksummed or self.encryption is not None) and self.page_size % unit:
            raise ConfigError(
                f"fota.candidate-block-size is {self.page_size}; the candidate's medium is programmed {unit} B at once",
                hint=f"a multiple of {unit} B",
            )

    def pages(self, key: bytes, device_key: bytes | None, iv: int, found: FirmwareHeader | None = None) -> Pages | None:
        """Return how the next image is to lie, None: at once.

        key         the image's own (16 B), new for each update
        device_key  the root of trust (16 B)
        iv          a random number of 64 bits, for wrapping the one with the other
        found       the header in the slot, when a download goes on: the key in it stays, if it is that key

        Raises:
            ImageRejected: there is no device key.
        """
        if self.encryption is None:
            return ChecksummedPages(self.page_size) if self.checksummed else None
        if device_key is None:
            raise ImageRejected("candidates of this build are encrypted, and the device has no root of trust")
        if self.encryption == "device key":
            cipher, wrapped = BlockCipher.of_device(device_key), None
        else:
            cipher, wrapped = BlockCipher(key), wrap_key(key, device_key, iv)
            if found is not None and found.wrapped_key is not None and _opens(found, key, device_key):
                wrapped = found.wrapped_key
        return EncryptedPages(cipher, wrapped_key=wrapped, page_size=self.page_size, resume=True)


def options_of(document: Mapping[str, Any], target: str) -> dict[str, Any]:
    """Return what an mbed_app.json says of candidates for a target, checked, under the names of `of_options`.

    Raises:
        ConfigError: it says something that they cannot be.
    """
    sections = document.get("target_overrides")
    found: dict[str, Any] = {}
    if isinstance(sections, Mapping):
        for name in ("*", target):
            part = sections.get(name)
            if isinstance(part, Mapping):
                found |= {each: part[f"{OPTION}.{each}"] for each in _NAMES if part.get(f"{OPTION}.{each}") is not None}
    CandidateForm.of_options(found)
    return found


def _opens(header: FirmwareHeader, key: bytes, device_key: bytes) -> bool:
    assert header.wrapped_key is not None
    try:
        return unwrap_key(header.wrapped_key, device_key) == key
    except ImageRejected:
        return False


def _one_of(options: Mapping[str, Any], name: str, known: Mapping[str, Any], *, default: Any) -> Any:
    said = options.get(name)
    if said is None:
        return default
    if not isinstance(said, str) or said not in known:
        raise ConfigError(f"fota.{name} is {said!r}", hint=f"one of {', '.join(known)}")
    return known[said]


def _switch(options: Mapping[str, Any], name: str) -> bool:
    said = options.get(name, 0)
    if said not in (0, 1):  # True and False are these as well
        raise ConfigError(f"fota.{name} is {said!r}", hint="0 or 1")
    return bool(said)
