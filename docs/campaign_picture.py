"""Make docs/campaign.png: a campaign with three simulated boards on a service's page, one opened, in Debian's Chromium.

python docs/campaign_picture.py
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image
from playwright import sync_api

TO = Path(__file__).with_name("campaign.png")
CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
CONNECTED = r"Connected to Pelion Device Management\. Device ID: ([0-9a-f]{32})"
BOARDS = {"desk": ("K64F", "1.0.0"), "bench": ("K64F", "2.0.0"), "field": ("K64F", "1.0.0")}
"""Name -> target and version: one is updated, one runs something newer, and one is far away."""


def main() -> None:
    """Start a service in a folder of its own, update its boards, and take the picture."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        os.environ |= {"PDMLAB_STATE": folder, "PDMLAB_DATA": folder}
        from pdmlab import Cloud, serve
        from pdmlab.sim.board import VirtualBoard
        from pdmlab.update.manifest import Manifest

        service = stack.enter_context(serve(name="picture"))
        cloud = stack.enter_context(Cloud(service.url, service.api_key))
        boards: dict[str, VirtualBoard] = {}
        ids = []
        for seed, (name, (target, version)) in enumerate(BOARDS.items(), 3):
            board = boards[name] = stack.enter_context(VirtualBoard(target, id=name, memory=True, seed=seed))
            if name == "field":
                board.network.link = "nb-iot"
            board.flash_application("example", version=version)
            ids.append(board.console.expect(CONNECTED, timeout=60)[1])
        image = boards["desk"].build("example", version="1.1.0")
        update = service.update_resources()
        assert update is not None
        manifest = Manifest.for_image(
            image, version="1.1.0", uri=cloud.firmware_image("example 1.1.0", image).url,
            vendor_id=update.vendor_id, class_id=update.class_id,
        ).sign(service.developer.private_key)  # fmt: skip
        campaign = cloud.campaign(cloud.manifest("1.1.0", manifest), devices=ids, name="example 1.1.0")
        until(lambda: shown(campaign))
        picture(service.page().link(), campaign.id)
        campaign.stop()
    print(f"{TO}: {TO.stat().st_size:,} B")


def shown(campaign: Any) -> bool:
    """Whether what the picture is to show has happened: one has failed, one is done, one is on its way."""
    found = campaign.progress()
    done = dict(zip(found["device_id"], found["phase"], strict=True))
    return {"success", "fail"} <= set(done.values()) and (found["block"].fillna(0) > 12).any()


def until(condition: Any, seconds: float = 60.0) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("what the picture is to show does not happen")
        time.sleep(0.2)


def picture(link: str, campaign_id: str) -> None:
    """Open the campaign and the device that is done, and take the picture."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1120, "height": 900})
        page.goto(link)
        page.wait_for_selector(".bar")
        page.goto(f"{link.partition('/enter/')[0]}/campaigns/{campaign_id}")
        page.get_by_role("row", name="success").first.locator(".turn").click()
        page.wait_for_selector(".closely .bootlog")
        page.wait_for_timeout(800)
        page.mouse.move(0, 0)
        page.screenshot(path=TO, full_page=True)
        browser.close()
    with Image.open(TO) as taken:
        taken.convert("RGB").quantize(96).save(TO, optimize=True)  # it has few colours


if __name__ == "__main__":
    main()
