"""The live page beside a service: a process of its own, which ends when the service does, however that ends."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import webbrowser
from collections.abc import Callable
from html import escape
from typing import IO

from pdmlab import running
from pdmlab.errors import PdmlabError, ServiceError, TimedOut

STARTING_S = 60.0
"""How long it may take to start on a busy machine."""
_ENDING_S = 10.0


class Page:
    """A page that shows a service in a browser; get it with `service.page()`.

    It holds no key: whoever opens it signs in with one, or comes by a link that does so once.
    """

    def __init__(
        self,
        service: str,
        api_key: str,
        *,
        port: int = 0,
        last: int = 0,
        started: Callable[[str], object] | None = None,
    ) -> None:
        """port: 0 takes the last one, or any; started: called with its address, in a thread, once it answers."""
        self._service, self._key, self._started = service, api_key, started
        self._url = self._said = ""
        self._up = threading.Event()
        command = [sys.executable, "-m", "pdmlab.page", service, "--port", str(port), "--last", str(last)]
        # Its input is never written to: it ends with this process, and the page ends with it.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_environment()
        )
        self._reader = threading.Thread(target=self._read, name="pdmlab-page", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        process = self._process
        assert process.stdout is not None and process.stderr is not None
        self._url = process.stdout.readline().decode().strip()
        if self._url and self._started is not None:
            self._started(self._url)
        self._up.set()
        self._said = _tail(process.stderr)

    @property
    def url(self) -> str:
        """Where it is; waits until it answers.

        Raises:
            TimedOut: it does not, after STARTING_S.
            ServiceError: it has ended.
        """
        if not self._up.wait(STARTING_S):
            raise TimedOut(f"the page of {self._service} has not started after {STARTING_S:.0f} s")
        if not self._url:
            self._reader.join(_ENDING_S)
            raise ServiceError(
                f"the page of {self._service} did not start: {self._said or 'it says nothing'}",
                status=503,
                hint="is its port taken? service.page(port=0) takes any free one",
            )
        return self._url

    @property
    def running(self) -> bool:
        """Whether it is there, or about to be."""
        return self._process.poll() is None

    def link(self) -> str:
        """Return an address that opens it signed in with the service's own key, once and within two minutes.

        Raises:
            Unreachable: it does not answer.
            ServiceError: it did not start.
        """
        return running.page_link(self.url, self._key)

    def open(self) -> None:
        """Open it in this machine's browser, signed in. Raises as `link` does."""
        webbrowser.open(self.link())

    def close(self) -> None:
        """End it; a second call does nothing."""
        process = self._process
        if not self._up.is_set():
            process.terminate()  # it still loads its libraries, and nobody has seen it
        with contextlib.suppress(OSError):
            if process.stdin is not None:
                process.stdin.close()
        try:
            process.wait(_ENDING_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._reader.join(_ENDING_S)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()

    def __repr__(self) -> str:
        state = self._url or "starting"
        return f"<Page of {self._service}, {state if self.running else 'closed'}>"

    def _repr_html_(self) -> str:
        if not self.running:
            return f"<p>The page of {escape(self._service)} is closed.</p>"
        try:
            link = escape(self.link(), quote=True)
        except PdmlabError as error:
            return f"<p>{escape(error.message)}</p>"
        return (
            f'<p><a href="{link}" target="_blank" rel="noopener">Open the page of the service</a>: signed in, once,'
            f" within two minutes. Later: <code>page.open()</code>, or <code>{escape(self._url)}</code> and a key.</p>"
        )


def _environment() -> dict[str, str]:
    """Return this process's, with the package where this one found it."""
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    paths = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}


def _tail(stream: IO[bytes]) -> str:
    """Read a stream to its end; return its last line."""
    last = b""
    for line in stream:
        last = line.strip() or last
    return last.decode("utf-8", "replace")[:300]
