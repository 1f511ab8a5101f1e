"""Scripts for mbed-cloud-sdk 2.2.0, run by its own Python environment against a service: source in, JSON out.

A script finds `config` (for legacy classes), `foundation()` (an SDK of the Foundation layer), what the test gave it
in `given`, and puts what it wants to say into `said`. Where something must happen in between, `step("subscribed")`
lets the test do it, and returns what the test's function for that step returned. Bytes are said as text.

>>> said = lab.run("said['id'] = foundation().foundation.account().me().id")  # doctest: +SKIP
>>> said["id"]  # doctest: +SKIP
'019a…'
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import threading
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import IO, Any

import httpx

from pdmlab.aio import LoopThread
from pdmlab.service.service import Service
from tests.service.restlab import LINKS, Device
from tests.tools import environment

TIMEOUT_S = 120.0

_BEFORE = """
import json, sys

given = json.loads(sys.stdin.readline())
config = {"api_key": given.pop("key"), "host": given.pop("host")}
said = {}


def step(name):
    print(json.dumps({"step": name}), flush=True)
    return json.loads(sys.stdin.readline())


def foundation():
    from mbed_cloud import SDK

    return SDK(**config)


"""
_AFTER = """

print(json.dumps({"said": said}, default=lambda it: it.decode() if isinstance(it, bytes) else str(it)), flush=True)
"""


class SdkLab:
    """A service, its devices, and the SDK; `rest` makes calls with an administrator's key."""

    def __init__(self, service: Service, loop: LoopThread) -> None:
        self.service, self.loop = service, loop
        self.python = environment("mbed-cloud-sdk-2.2.0", "mbed-cloud-sdk==2.2.0")
        headers = {"Authorization": f"Bearer {service.api_key}"}
        self.rest = httpx.Client(base_url=service.url, headers=headers, timeout=30)
        self._devices: list[Device] = []

    def device(self, name: str, *, links: str = LINKS, kind: type[Device] = Device) -> Device:
        """Return a device of that endpoint name, registered without security; kind: a class of the test's own."""
        made = kind(self._wait, self.service.core.lwm2m.address, name)
        made.register(links)
        self._devices.append(made)
        return made

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run(work, timeout=30)

    def new_key(self, name: str = "for the SDK", *, group: str = "Administrators") -> str:
        """Make an API key."""
        groups = self.rest.get("/v3/policy-groups", params={"name__eq": group}).json()["data"]
        made = self.rest.post("/v3/api-keys", json={"name": name, "groups": [each["id"] for each in groups]})
        assert made.status_code == 201, made.text
        return str(made.json()["key"])

    def run(
        self,
        script: str,
        *,
        key: str | None = None,
        steps: Mapping[str, Callable[[], object]] | None = None,
        timeout_s: float = TIMEOUT_S,
        **given: Any,
    ) -> dict[str, Any]:
        """Run a script and return what it said; it must end well.

        key: the API key it uses, an administrator's otherwise. steps: what to do when the script comes to a step;
        what that returns goes to the script as JSON. given: what the script finds in `given`.
        """
        told = json.dumps({"key": key or self.service.api_key, "host": self.service.url, **given})
        # In a folder of its own: the SDK looks for settings in the one that it is started in.
        with tempfile.TemporaryDirectory(prefix="pdmlab-sdk-") as folder, tempfile.TemporaryFile("w+") as errors:
            source = Path(folder, "script.py")
            source.write_text(_BEFORE + script + _AFTER)
            command = [str(self.python), "-W", "ignore", str(source)]
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors}
            with subprocess.Popen(command, cwd=folder, text=True, **pipes) as sdk:
                ending = threading.Timer(timeout_s, sdk.kill)
                ending.start()
                try:
                    assert sdk.stdin is not None and sdk.stdout is not None
                    said = _talk(sdk.stdin, sdk.stdout, told, steps or {})
                except BaseException:
                    sdk.kill()
                    raise
                finally:
                    ending.cancel()
            errors.seek(0)
            assert sdk.returncode == 0 and said is not None, errors.read()[-4000:]
            return said

    def close(self) -> None:
        """Close the devices' sockets; what the service knows of them stays."""
        self.rest.close()
        for device in self._devices:
            device.close()


def _talk(write: IO[str], read: IO[str], told: str, steps: Mapping[str, Callable[[], object]]) -> dict[str, Any] | None:
    write.write(f"{told}\n")
    write.flush()
    said: dict[str, Any] | None = None
    for line in read:
        if line.startswith('{"step": '):
            result = steps[json.loads(line)["step"]]()
            write.write(f"{json.dumps(result, default=lambda _: None)}\n")
            write.flush()
        elif line.startswith('{"said": '):
            said = json.loads(line)["said"]
    return said
