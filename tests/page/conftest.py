"""A service with its page, and a browser that may go nowhere else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright import sync_api

from pdmlab.service import Service, serve
from tests.page.devices import registered
from tests.service.restlab import Device
from tests.tools import unavailable

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
PATIENCE_MS = 30_000


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    """For one module: as long as it runs, there is a loop in this thread."""
    if not Path(CHROMIUM).exists():
        unavailable(f"there is no {CHROMIUM}, which Debian's package chromium installs")
    sync_api.expect.set_options(timeout=PATIENCE_MS)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def service(_no_settings_of_yours: None) -> Iterator[Service]:
    """One for all tests: each brings devices of its own."""
    with serve(name="page") as service:
        service.page()
        yield service


@pytest.fixture
def device(service: Service) -> Iterator[Callable[[str], Device]]:
    """Register a device of an endpoint name."""
    devices: list[Device] = []

    def make(name: str) -> Device:
        devices.append(registered(service, name))
        return devices[-1]

    yield make
    for each in devices:
        each.close()


class Tab:
    """A browser's page, with what it has asked for and complained of."""

    def __init__(self, browser: sync_api.Browser, address: str, **options: Any) -> None:
        self.address = address
        self.context = browser.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True, **options)
        self.context.set_default_timeout(PATIENCE_MS)
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.context.route("**/*", self._route)
        self.page = self.context.new_page()
        self.page.on("websocket", lambda socket: self.asked.append(socket.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)

    def _route(self, route: sync_api.Route) -> None:
        self.asked.append(route.request.url)
        if route.request.url.startswith(self.address):
            route.continue_()
        else:
            route.abort()

    @property
    def elsewhere(self) -> list[str]:
        """What was asked of others than the page's host."""
        own = (self.address, self.address.replace("http", "ws", 1), "data:", "blob:")
        return [url for url in self.asked if not url.startswith(own)]

    def go(self, path: str = "/") -> sync_api.Page:
        self.page.goto(self.address + path)
        return self.page

    def sign_in(self, key: str) -> sync_api.Page:
        page = self.go("/sign-in")
        page.get_by_label("API key").fill(key)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_selector(".bar")
        return page

    def open_device(self, name: str) -> sync_api.Page:
        self.page.get_by_role("link", name=name, exact=True).click()
        self.page.wait_for_selector(f"h1:has-text('{name}')")
        return self.page

    def resource(self, path: str) -> sync_api.Locator:
        return self.page.locator(f"[data-path='{path}']")

    def act(self, path: str, verb: str) -> None:
        self.resource(path).get_by_role("button", name=f"{verb} {path}").click()

    def expect(self, path: str, value: str) -> None:
        sync_api.expect(self.resource(path).locator(".value")).to_have_text(value)


@pytest.fixture
def open_tab(browser: sync_api.Browser, service: Service) -> Iterator[Callable[..., Tab]]:
    """Open a browser of its own (cookies and all); nothing but the page's host is asked, and nothing is wrong."""
    tabs: list[Tab] = []

    def make(address: str = "", **options: Any) -> Tab:
        tabs.append(Tab(browser, address or service.page().url, **options))
        return tabs[-1]

    yield make
    for tab in tabs:
        tab.context.close()
    for tab in tabs:
        assert tab.elsewhere == []
        assert tab.complaints == []


@pytest.fixture
def tab(open_tab: Callable[..., Tab], service: Service) -> Tab:
    """A browser that is signed in with the service's own key."""
    made = open_tab()
    made.sign_in(service.api_key)
    return made


class Apart:
    """A page that no service has started."""

    def __init__(self, service: str, port: int = 0) -> None:
        command = [sys.executable, "-m", "pdmlab.page", service, "--port", str(port)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()

    def close(self) -> int:
        """End what it reads from, as the end of its parent does; return its exit status."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait(30)


@pytest.fixture
def page_of() -> Iterator[Callable[..., Apart]]:
    """Start a page of the service at a URL."""
    pages: list[Apart] = []

    def start(service: str, port: int = 0) -> Apart:
        pages.append(Apart(service, port))
        return pages[-1]

    yield start
    for each in pages:
        assert each.close() == 0
