"""What every view has around it: the bar, the notice that the service is away, the clock that it is refreshed by."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from importlib import resources

from nicegui import ui
from starlette.requests import Request

from pdmlab.errors import PdmlabError, ServiceError
from pdmlab.page import words
from pdmlab.page.door import Door, Session
from pdmlab.page.seat import Seat

VIEWS = {"Devices": "/", "Campaigns": "/campaigns", "Credentials": "/credentials"}
RIGHTS = {"read-only": "may read", "developer": "developer", "administrator": "administrator"}

Look = Callable[[], Awaitable[None]]


class Frame:
    """A tab of a browser: its session, and what it looks at again and again."""

    def __init__(self, door: Door, request: Request, here: str) -> None:
        """here: which of VIEWS it belongs to."""
        self._door = door
        self.session: Session = request.scope["state"]["session"]
        self._here = here
        self._client = ui.context.client
        self._left = False

    @property
    def seat(self) -> Seat:
        """Whose key it is."""
        return self.session.seat

    @contextlib.contextmanager
    def show(self, title: str) -> Iterator[None]:
        """Draw the bar, and open the part below it."""
        ui.page_title(f"{title} · pdmlab")
        ui.add_css(resources.files("pdmlab.page").joinpath("look.css").read_text(encoding="utf-8"))
        self._dark = ui.dark_mode(self.session.dark)
        self.session.tabs.add(self._leave)
        self._client.on_delete(lambda: self.session.tabs.discard(self._leave))
        ui.add_body_html(_gone(self.seat.url, beside=self._door.beside))
        self._bar()
        with ui.element("div").classes("view"):
            yield
        self._away = ui.element("div").classes("away").props('role="alert"')
        with self._away:
            self._away_text = ui.html("", sanitize=False)
        self._away.set_visibility(False)
        self.every(1.0, self._pulse_once, now=False)

    def _bar(self) -> None:
        seat = self.seat
        with ui.element("div").classes("bar").props('role="banner"'):
            ui.link("pdmlab", "/").classes("brand")
            with ui.element("nav").props('aria-label="Views"'):
                for name, path in VIEWS.items():
                    link = ui.link(name, path)
                    if name == self._here:
                        link.classes("here").props('aria-current="page"')
            with ui.element("div").classes("who"):
                self._pulse = ui.label("live").classes("pulse good")
                whose = " · ".join(dict.fromkeys((seat.key_name, RIGHTS[seat.rights])))
                ui.label(whose).classes("name quiet wide").tooltip(
                    f"API key {seat.key_name}, account {seat.account_name or seat.account_id}, at {seat.url}"
                )
                ui.button(icon="contrast", color=None, on_click=self._turn).props(
                    'flat round dense size=sm aria-label="Light or dark"'
                )
                with ui.element("form").props('method="post" action="/sign-out"'):
                    ui.button("Sign out", color=None).props('type="submit" flat').classes("plain")

    def _turn(self) -> None:
        """Go from what the system has to dark, to light, and back."""
        self.session.dark = {None: True, True: False, False: None}[self.session.dark]
        self._dark.value = self.session.dark

    # -- looking again ---------------------------------------------------------------------------------------

    def every(self, seconds: float, look: Look, *, now: bool = True) -> None:
        """Call `look` every so often (s, host clock) while the tab is open; not again before it has ended."""
        looking = False

        async def once() -> None:
            nonlocal looking
            if looking or self._left:
                return
            looking = True
            try:
                await look()
            except PdmlabError as error:
                self._failed(error)
            finally:
                looking = False

        ui.timer(seconds, once, immediate=now)

    async def _pulse_once(self) -> None:
        """Say whether the service answers; ask it, if nobody else has found that out."""
        self._door.touch(self.session)
        api = self.seat.api
        if api.away_since is not None:
            with contextlib.suppress(PdmlabError):
                await api.get("/v3/api-keys/me")
        away = api.away_since
        said = "away" if away is not None else "live"
        if self._pulse.text != said:
            self._pulse.set_text(said)
            self._pulse.classes(replace=f"pulse {'bad' if away is not None else 'good'}")
            self._away.set_visibility(away is not None)
        if away is not None:
            self._away_text.set_content(
                f"The service at {words.safe(self.seat.url)} has not answered since {words.moment(away)} UTC"
                " (host clock)."
                " What is shown is of then. Start it again; it is asked every second, and this view goes on by itself."
                f' <span class="quiet">{words.safe(api.trouble)}</span>'
            )

    def _failed(self, error: PdmlabError) -> None:
        if isinstance(error, ServiceError) and error.status == 401 and not self._left:
            self._door.sign_out(self.session, "key")  # it was revoked: this tab is told by `_leave`, as all of them

    def _leave(self, why: str) -> None:
        if not self._left:
            self._left = True
            if why == "end":
                return  # the browser finds that out, and says so
            with contextlib.suppress(Exception), self._client:  # the browser may be gone
                ui.navigate.to(f"/sign-in?why={why}")

    # -- doing something -------------------------------------------------------------------------------------

    def does(
        self, work: Callable[[], Awaitable[str | None]], button: ui.button | None = None
    ) -> Callable[[], Awaitable[None]]:
        """Return a handler that does some work once at a time, and says how it went: its own words, or the error's."""

        async def handler() -> None:
            if button is not None:
                button.disable()
            try:
                said = await work()
                if said:
                    ui.notify(said, type="positive", position="bottom-right")
            except PdmlabError as error:
                self._failed(error)
                say(error)
            finally:
                if button is not None and not button.is_deleted:
                    button.enable()

        return handler


def _gone(url: str, *, beside: bool) -> str:
    """Return what the browser shows when nothing answers it any more; a page beside a service ends with that."""
    told = resources.files("pdmlab.page").joinpath("gone.html").read_text(encoding="utf-8")
    if beside:
        what = f"The service at {words.safe(url)}"
        to_do = "Its page has ended with it. Start it again on its machine: <code>pdmlab service</code>"
    else:
        what = "The page"
        to_do = (
            f"The service at {words.safe(url)} may well be there. Start its page again:"
            f" <code>pdmlab page --url {words.safe(url)}</code>"
        )
    return told.replace("{{what}}", what).replace("{{do}}", to_do)


def say(error: PdmlabError) -> None:
    """Show an error with its hint until it is put away."""
    ui.notify(
        words.error(error),
        type="negative",
        position="bottom-right",
        multi_line=True,
        close_button="OK",
        timeout=0,
    )


def button(text: str, *, look: str = "plain", why_not: str = "", label: str = "") -> ui.button:
    """Return a button; one that may not be pressed says why, to those who use a pointer and to those who do not."""
    made = ui.button(text, color=None).classes(look).props("flat no-caps")
    if label:
        made.props(f'aria-label="{label}"')
    if why_not:
        made.disable()
        made.props(f'aria-label="{label or text}: {why_not}"')
        made.tooltip(why_not)
    return made


@contextlib.contextmanager
def panel(title: str = "") -> Iterator[ui.element]:
    """Open a box, with a title if it has one; yields the end of its header, for what else belongs there."""
    with ui.element("section").classes("panel"):
        with ui.element("header") as header:
            if title:
                heading(2, title)
            end = ui.element("div").classes("end")
        header.set_visibility(bool(title))
        yield end


def heading(level: int, text: str) -> ui.html:
    """Return a heading."""
    return ui.html(f"<h{level}>{words.safe(text)}</h{level}>", sanitize=False)
