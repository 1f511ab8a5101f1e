"""Which service a command asks, and with which key: --host, --api-key, --name, and what they mean together."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pdmlab import running, settings
from pdmlab.errors import ConfigError, ServiceError, Unreachable

if TYPE_CHECKING:
    from pdmlab.cloud import Cloud

_Command = TypeVar("_Command", bound=Callable[..., Any])

named = click.option("--name", "service", help="Name of the service that runs here, if it is not the only one.")


def asking(command: _Command) -> _Command:
    """Give a command the options that say which service it asks: its `host`, `api_key` and `service`."""
    for option in (
        named,
        click.option("--host", help="Address of the service; default: PDMLAB_HOST, else the one that runs here."),
        click.option(
            "-a",
            "--api-key",
            help="Its key; default: PDMLAB_API_KEY, else the running service's, else CLOUD_SDK_API_KEY.",
        ),
    ):
        command = option(command)
    return command


def place(host: str | None, api_key: str | None, service: str | None) -> tuple[str | None, str | None]:
    """Return address and key of the service that is named; without a name, what was given.

    Raises:
        ConfigError: no service of that name runs here; or both an address and a name are given.
    """
    if service is None:
        return host, api_key
    if host is not None:
        raise ConfigError("a service has either a name or an address", hint="leave --name out where it runs elsewhere")
    url, its_key = running.named(service)
    return url, settings.load(api_key=api_key).text("api_key").strip() or its_key


def facts(url: str, api_key: str, ca: Path | None = None) -> dict[str, Any]:  # any: what JSON holds
    """Return what a service says of itself: its addresses, and its page's.

    Raises:
        Unreachable: it does not answer.
        ServiceError: it does not know the key, or is another program.
    """
    import httpx

    try:
        answer = httpx.get(
            f"{url}/lab/service",
            headers={"Authorization": f"Bearer {api_key}"},
            trust_env=False,
            verify=str(ca) if ca is not None else url.startswith("https:"),
        )
        said = answer.json()
    except (httpx.TransportError, httpx.InvalidURL, ValueError) as error:
        raise Unreachable(f"the service at {url} does not answer: {error or type(error).__name__}") from error
    if not answer.is_success or not isinstance(said, dict):
        raise ServiceError(f"the service at {url} does not say where it is", status=answer.status_code)
    return said


@contextlib.contextmanager
def asked(host: str | None, api_key: str | None, service: str | None) -> Iterator[Cloud]:
    """Open the service for a command; a key that it does not know is answered with where its own is.

    Raises:
        ConfigError: there is none, or it cannot be said which.
    """
    from pdmlab.cloud import Cloud

    with Cloud(*place(host, api_key, service)) as cloud:
        try:
            yield cloud
        except ServiceError as error:
            if error.status == 401:
                file = running.key_file(cloud.host)
                where = file or "the file api-key of its folder, which `pdmlab service` prints"
                error.hint = f"is the API key this service's, and not revoked? an administrator's is in {where}"
            raise
