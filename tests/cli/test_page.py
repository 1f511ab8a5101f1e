"""`pdmlab page`, and the page that `pdmlab service` starts beside itself."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from pdmlab import running
from pdmlab.cli import main
from pdmlab.service import serve
from tests.cli.processes import started

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX signals")


def line(process: subprocess.Popen[str], name: str) -> str:
    """Return what a command says behind a name, when it says it."""
    for said in process.stdout or ():
        if said.startswith(f"{name} "):
            return said[19:].strip()
    raise AssertionError(f"it says nothing of {name}")


def test_the_page_beside_a_service_ends_with_it_even_if_that_is_killed() -> None:
    with started("service") as process:
        url = line(process, "page").partition(";")[0]
        service, key = running.find() or ("", "")
        assert httpx.get(f"{url}/alive").text == "alive"
        found = httpx.get(f"{service}/lab/service", headers={"Authorization": f"Bearer {key}"}).json()
        assert found["page"] == url
        process.send_signal(signal.SIGKILL)
        process.wait()
        with pytest.raises(httpx.TransportError):
            while True:  # it hears of it at once, and takes a moment to end
                httpx.get(f"{url}/alive", timeout=5)


def test_a_service_without_a_page_starts_none() -> None:
    with started("service", "--no-page") as process:
        line(process, "CA certificate")
        service, key = running.find() or ("", "")
        assert httpx.get(f"{service}/lab/service", headers={"Authorization": f"Bearer {key}"}).json()["page"] is None
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=30)
        assert process.returncode == 0 and "page  " not in rest


def test_it_shows_the_service_that_runs_until_ctrl_c() -> None:
    with serve() as service, started("page") as process:
        url = line(process, "page")
        assert running.page_link(url, service.api_key).startswith(f"{url}/enter/")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def test_what_cannot_be_is_said_in_one_line(tmp_path: Path) -> None:
    def said(*arguments: str) -> str:
        done = CliRunner().invoke(main, ["page", *arguments])
        assert done.exit_code == 1, done.output
        return str(done.output)

    assert "there is no service to show" in said()
    with serve() as service:
        assert "would take API keys in the clear" in said("--host", "0.0.0.0")
        pem = tmp_path / "page.pem"
        pem.write_text("")
        assert "go together" in said("--certificate", str(pem))
        assert "is no address to listen on" in said("--host", "127.nowhere")
        port = service.url.rpartition(":")[2]
        assert "the page cannot listen on" in said("--port", port)
        assert "there is no API key" in said("--url", "http://127.0.0.1:9", "--open")


def test_open_takes_the_page_that_runs_beside_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or True)
    with serve() as service:
        url = service.page().url
        assert service.page() is service.page() and repr(service.page()) == f"<Page of {service.url}, {url}>"
        done = CliRunner().invoke(main, ["page", "--open"])
        assert done.exit_code == 0 and "opened in the browser" in done.output
        assert opened[0].startswith(f"{url}/enter/") and service.api_key not in done.output + opened[0]
        assert 'target="_blank"' in service.page()._repr_html_()
        page = service.page()
    assert not page.running and "closed" in repr(page) and "closed" in page._repr_html_()
    with serve() as service:
        assert service.page().url == url  # a bookmark stays good


def test_the_line_that_a_named_service_prints_opens_its_page_and_no_others() -> None:
    browser = {**os.environ, "BROWSER": "echo %s"}
    with serve() as other, started("service", "--name", "bench") as process:
        other.page()
        url, _, opening = line(process, "page").partition("; ")
        assert opening == "`pdmlab page --name bench --open`"
        with started(*opening.strip("`").split()[1:], env=browser) as opened:
            assert f"{url}/enter/" in opened.communicate(timeout=30)[0]
            assert opened.returncode == 0
        process.send_signal(signal.SIGINT)
        process.wait(30)
