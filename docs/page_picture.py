"""Make docs/page.png: the page of a service with a few simulated devices, one of them observed, in Debian's Chromium.

python docs/page_picture.py
"""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path

from playwright import sync_api

TO = Path(__file__).with_name("page.png")
CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
DEVICES, VALUES = 6, 30


def main() -> None:
    """Start a service in a folder of its own, and take the picture."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"PDMLAB_STATE": folder, "PDMLAB_DATA": folder}
        from pdmlab import serve
        from pdmlab.client import Lwm2mClient, TableObject

        temperature = TableObject(3303, {0: {5700: 21.0, 5701: "Cel"}})
        with serve(name="picture") as service:
            devices = [
                Lwm2mClient(f"K64F-desk-{n}", str(service.plain_lwm2m_uri), objects=[temperature] if n == 0 else [])
                for n in range(DEVICES)
            ]
            try:
                for device in devices:
                    device.start()
                picture(service.page().link(), temperature)
            finally:
                for device in devices:
                    device.close()
    print(f"{TO}: {TO.stat().st_size:,} B")


def picture(link: str, temperature: object) -> None:
    """Open the first device, observe its temperature, and take the picture."""
    chance = random.Random(7)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1120, "height": 760})
        page.goto(link)
        page.get_by_role("link", name="K64F-desk-0").click()
        for path in ("/3/0", "/3303/0"):
            page.locator(f"[data-path='{path}']").get_by_role("button", name="Read").click()
        page.locator("[data-path='/3303/0/5700']").get_by_role("button", name="Observe").click()
        page.wait_for_selector("[data-path='/3303/0/5700'] .on")
        for _ in range(VALUES):
            value = temperature.read(0, 5700) + chance.uniform(-0.4, 0.4)  # type: ignore[attr-defined]
            temperature.set(0, 5700, round(value, 1))  # type: ignore[attr-defined]
            page.wait_for_timeout(120)
        page.get_by_label("Search resources").fill("3303")
        page.wait_for_selector("[data-path='/3303/0/5700'] svg")
        page.wait_for_timeout(500)
        page.get_by_label("Search resources").blur()
        page.evaluate("scrollTo(0, 0)")
        page.mouse.move(0, 0)
        page.screenshot(path=TO)
        browser.close()


if __name__ == "__main__":
    main()
