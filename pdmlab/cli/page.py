"""`pdmlab page`: the live page of a service, in a browser."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pdmlab import running, settings
from pdmlab.cli.asking import facts, named, place
from pdmlab.cli.stopping import stoppable
from pdmlab.errors import ConfigError, NetworkError, ServiceError

if TYPE_CHECKING:
    from collections.abc import Callable

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@named
@click.option("--url", help="The service's; default: PDMLAB_HOST, else the one that runs here.")
@click.option("--open", "opens", is_flag=True, help="Open it in this machine's browser, signed in with the key.")
@click.option("-a", "--api-key", help="The key for --open; default: PDMLAB_API_KEY, else the running service's.")
@click.option("--ca", type=_FILE, help="The certificate of the service's CA, where its URL is https.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address of this machine that browsers reach.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="The page's port; 0 takes any free one.")
@click.option("--certificate", type=_FILE, help="The page's own certificate (PEM), for https; wanted off loopback.")
@click.option("--private-key", type=_FILE, help="The private key of that (PEM).")
def page(
    service: str | None,
    url: str | None,
    opens: bool,
    api_key: str | None,
    ca: Path | None,
    host: str,
    port: int,
    certificate: Path | None,
    private_key: Path | None,
) -> None:
    """Show a service in a browser, until Ctrl-C: its devices, their values and messages, campaigns, credentials.

    Whoever opens the page signs in with an API key, and sees what that key may see. With --open, the page that runs
    beside the service is opened, if there is one.
    """
    address, key = _service(*place(url, api_key, service))
    if opens and not key:
        raise ConfigError(f"there is no API key for {address}", hint="give -a, or leave --open and sign in on the page")
    if opens and host == "127.0.0.1" and port == 0 and (beside := _beside(address, key, ca)) is not None:
        _open(lambda: beside)
        return
    if (certificate is None) != (private_key is None):
        raise ConfigError("a certificate and its key go together", hint="give both --certificate and --private-key")
    if not host.startswith("127.") and host != "::1" and certificate is None:
        raise ConfigError(
            f"a page at {host} would take API keys in the clear",
            hint="give it --certificate and --private-key, or leave it on loopback and forward a port to it",
        )
    from pdmlab.page.run import Running

    files = (certificate, private_key) if certificate is not None and private_key is not None else None
    with stoppable() as until_stopped, Running(address, host=host, port=port, ca=ca, certificate=files) as made:
        click.echo(f"{'page':<19} {made.url}")
        click.echo(f"{'of the service at':<19} {address}")
        click.echo("Sign in with an API key of the service. Ctrl-C ends it.")
        if opens:
            _open(lambda: made.link(key))
        until_stopped()


def _service(url: str | None, api_key: str | None) -> tuple[str, str]:
    """Return the service's URL, and a key if one is known."""
    known = settings.load(host=url, api_key=api_key)
    service, key = known.text("host").strip().rstrip("/"), known.text("api_key").strip()
    if service:
        beside = (its_key for its_url, its_key in running.everywhere().values() if its_url == service)
        return service, key or next(beside, "")
    nearest = running.nearest()
    if nearest is None:
        raise ConfigError(
            "there is no service to show: none runs here, and no --url is given",
            hint="`pdmlab service` starts one, with its page beside it",
        )
    return nearest[0], key or nearest[1]


def _beside(service: str, key: str, ca: Path | None) -> str | None:
    """Return a link to the page that runs beside the service; None if there is none."""
    try:
        found = facts(service, key, ca).get("page")
        return running.page_link(found, key) if found else None
    except (NetworkError, ServiceError):
        return None  # the page of our own says what is wrong


def _open(link: Callable[[], str]) -> None:
    address = link()
    if webbrowser.open(address):
        click.echo("opened in the browser, signed in")
    else:
        click.echo(f"no browser could be opened; this link works once, within two minutes: {address}")
