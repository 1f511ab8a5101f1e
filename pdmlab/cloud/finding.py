"""Which service is meant, and with which key: as given, else from the settings, else the one that runs here."""

from __future__ import annotations

import os
import re
import ssl
from dataclasses import dataclass
from pathlib import Path

import httpx

from pdmlab import running, settings
from pdmlab.errors import ConfigError

KEY_VARIABLE = "CLOUD_SDK_API_KEY"

_KEY = re.compile(r"[\x21-\x7e]+")  # what may stand in a header
_WITH_PASSWORD = re.compile(r"([a-z][a-z0-9+.-]*://)?[^/?#]*@", re.I)


@dataclass(frozen=True)
class Place:
    """A service's address, how its certificate is checked, and a key, which is never shown."""

    host: str
    key: str
    verify: ssl.SSLContext | bool

    def __repr__(self) -> str:
        return f"<Place {self.host}>"


def find_service(host: str | None, api_key: str | None, ca: Path | str | None = None) -> Place:
    """Return the service and key to use; ca: file with the certificate of the CA that signed an https service's.

    CLOUD_SDK_API_KEY comes last: it may well be another service's.

    Raises:
        ConfigError: one of them is missing or cannot be one.
    """
    known = settings.load(host=host, api_key=api_key, ca=None if ca is None else str(ca))
    address, key = known.text("host").strip().rstrip("/"), known.text("api_key").strip()
    if not address:
        address, its_key = running.nearest() or ("", "")
        key = key or its_key
    key = key or os.environ.get(KEY_VARIABLE, "").strip()
    if not address:
        raise ConfigError(
            "there is no service to ask: the setting host is empty, and none runs here",
            hint="pdmlab.serve() or `pdmlab service` starts one; or set PDMLAB_HOST",
        )
    if _WITH_PASSWORD.match(address):
        raise ConfigError(
            "the host has a user name or a password in it, which would be shown wherever the host is",
            hint="keys go into api_key or PDMLAB_API_KEY; write the host as http://127.0.0.1:8080",
        )
    if not _is_url(address):
        raise ConfigError(f"the host {address!r} is no URL", hint="write it as http://127.0.0.1:8080")
    if not key:
        raise ConfigError(
            f"there is no API key for {address}", hint=f"give api_key=, or set PDMLAB_API_KEY or {KEY_VARIABLE}"
        )
    if not _KEY.fullmatch(key):
        raise ConfigError(
            "the API key has characters that none has", hint="was it copied with a line break or quotation marks?"
        )
    return Place(address, key, _trusting(address, known.text("ca").strip()))


def _is_url(address: str) -> bool:
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL:
        return False
    return url.scheme in ("http", "https") and url.host != ""


def _trusting(address: str, ca: str) -> ssl.SSLContext | bool:
    """Return how certificates are checked; plain http has none, and to make ready for TLS takes 70 ms."""
    if not address.startswith("https:"):
        return False
    if not ca:
        return True
    try:
        return ssl.create_default_context(cafile=Path(ca).expanduser())
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"the CA's certificate cannot be read from {ca}: {error}", hint="a PEM file, such as service.ca_file"
        ) from error
