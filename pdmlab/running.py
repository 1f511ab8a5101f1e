"""The services that run: in this process, else on this machine under the user's state folder, each by its name."""

from __future__ import annotations

from pathlib import Path

from pdmlab import settings
from pdmlab.errors import ConfigError, PortBusy, ServiceError, Unreachable
from pdmlab.filelock import FileLock

DEFAULT = "default"
_LINK_S = 30.0  # that a page may take to ask the service whose key it is

_here: dict[str, tuple[str, str]] = {}
"""Address and administrator's key of this process's services by name, the one started last at the end."""


def announce(name: str, url: str, api_key: str) -> None:
    """Let others in this process find a service that has just started."""
    _here[name] = url, api_key


def withdraw(name: str) -> None:
    """Let nobody find a service any more."""
    _here.pop(name, None)


def nearest() -> tuple[str, str] | None:
    """Return address and administrator's key of this process's service, started last; else of the one that runs.

    Of several that run, it is the one named "default".

    Raises:
        ConfigError: several run, and none has that name.
    """
    if _here:
        return next(reversed(_here.values()))
    found = everywhere()
    if len(found) > 1 and DEFAULT not in found:
        raise ConfigError(
            f"several services run here: {listed(found)}",
            hint="say which by its name: --name on the command line; or by its address, with PDMLAB_HOST",
        )
    return found.get(DEFAULT) or next(iter(found.values()), None)


def named(name: str) -> tuple[str, str]:
    """Return address and administrator's key of the running service of that name.

    Raises:
        ConfigError: none runs; what does is in the message.
    """
    found = find(name)
    if found is None:
        others = everywhere()
        raise ConfigError(
            f"no service named {name!r} runs here" + (f", but {listed(others)}" if others else ", nor any other"),
            hint="--name says which of them is meant" if others else f"`pdmlab service --name {name}` starts it",
        )
    return found


def everywhere() -> dict[str, tuple[str, str]]:
    """Return address and administrator's key of each service that runs on this machine, by its name."""
    ports = sorted((settings.load().folder("state") / "service").glob("*/port"))
    found = {file.parent.name: find(file.parent.name) for file in ports}
    return {name: place for name, place in found.items() if place is not None}


def key_file(url: str) -> Path | None:
    """Return the file with the administrator's key of the service at an address; None if none of this machine's is."""
    folder = settings.load().folder("state") / "service"
    return next((folder / name / "api-key" for name, (address, _) in everywhere().items() if address == url), None)


def listed(services: dict[str, tuple[str, str]]) -> str:
    """Return services for a message: each one's name and address."""
    return ", ".join(f"{name} ({url})" for name, (url, _) in services.items())


def find(name: str = DEFAULT) -> tuple[str, str] | None:
    """Return address and administrator's key of the running service of that name; None if none runs.

    A service that has ended may have left its port to another program, which is not to be told the key: so
    the lock decides, which ends with its process.
    """
    folder = settings.load().folder("state") / "service" / name
    try:
        FileLock(folder / "lock", name).close()
        return None
    except PortBusy:
        pass
    except OSError:
        return None
    try:
        key = (folder / "api-key").read_text(encoding="utf-8").strip()
        return f"http://127.0.0.1:{int((folder / 'port').read_text(encoding='ascii'))}", key
    except (OSError, ValueError):
        return None  # it is just starting


def page_link(page: str, api_key: str) -> str:
    """Return an address that opens a service's page signed in with this key, once and within two minutes.

    Raises:
        Unreachable: the page does not answer.
        ServiceError: the service does not know the key, or does not answer.
    """
    import httpx

    key = {"Authorization": f"Bearer {api_key}"}
    try:
        answer = httpx.post(f"{page}/links", headers=key, trust_env=False, timeout=_LINK_S)
    except httpx.TransportError as error:
        raise Unreachable(
            f"the page at {page} does not answer: {error or type(error).__name__}",
            hint="does it run? `pdmlab page` starts one",
        ) from error
    if answer.status_code != 201:
        raise ServiceError(f"the page at {page} gives no link: {answer.text[:200]}", status=answer.status_code)
    return str(answer.json()["url"])
