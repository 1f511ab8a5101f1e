"""Which view is at which path."""

from __future__ import annotations

from nicegui import Client, app, ui
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from pdmlab.page.campaign import Campaign
from pdmlab.page.campaigns import Campaigns
from pdmlab.page.credentials import Credentials
from pdmlab.page.device import Device
from pdmlab.page.devices import Devices
from pdmlab.page.door import Door
from pdmlab.page.frame import VIEWS, Frame, heading, panel

FAVICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="6" fill="#0b5cad"/>'
    '<path d="M8 22V10h8a4 4 0 0 1 0 8H8m14-8v12" fill="none" stroke="#fff" stroke-width="3"/></svg>'
)


def make(door: Door) -> None:
    """Register the views; who asks for one has a session of the door's."""

    @ui.page("/")
    def devices(request: Request) -> None:
        frame = Frame(door, request, "Devices")
        with frame.show("Devices"):
            Devices(frame).show()

    @ui.page("/devices/{device_id}")
    async def device(request: Request, device_id: str) -> None:
        frame = Frame(door, request, "Devices")
        view = Device(frame, device_id)
        with frame.show("Device"):
            view.show()

    @ui.page("/campaigns")
    def campaigns(request: Request) -> None:
        frame = Frame(door, request, "Campaigns")
        with frame.show("Campaigns"):
            Campaigns(frame).show()

    @ui.page("/campaigns/{campaign_id}")
    def campaign(request: Request, campaign_id: str) -> None:
        frame = Frame(door, request, "Campaigns")
        with frame.show("Campaign"):
            Campaign(frame, campaign_id).show()

    @ui.page("/credentials")
    def credentials(request: Request) -> None:
        frame = Frame(door, request, "Credentials")
        with frame.show("Credentials"):
            Credentials(frame).show()

    @app.exception_handler(404)
    async def no_such_view(request: Request, error: Exception) -> Response:
        if request.method != "GET" or "text/html" not in request.headers.get("accept", ""):
            return PlainTextResponse("there is nothing at this path", 404)
        with Client(ui.page(""), request=request) as client:
            frame = Frame(door, request, "")
            with frame.show("Not found"):
                heading(1, "Not found")
                with panel(), ui.element("div").classes("empty"):
                    ui.label(f"The page has no view at {request.url.path[:200]}.").style("overflow-wrap: anywhere")
                    ui.label("What there is:")
                    with ui.element("div").classes("chips"):
                        for name, path in VIEWS.items():
                            ui.link(name, path)
        return client.build_response(request, 404)
