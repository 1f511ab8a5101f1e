"""What an update asks and tells the application: whether it may go on, and how far it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pdmlab.client.background import Background
from pdmlab.client.hooks import Hooks, UpdateQuestion, UpdateRequest
from pdmlab.update.interface import ALLOWED, Answer, Step, rejected_for
from pdmlab.update.manifest import Manifest

_REQUESTS = {Step.DOWNLOAD: UpdateRequest.Download, Step.INSTALL: UpdateRequest.Install}


class UpdateHooks:
    """An application's hooks, called in device threads while an update goes on."""

    def __init__(self, hooks: Hooks, background: Background) -> None:
        self._hooks = hooks
        self._background = background
        self._progress: tuple[int, int] | None = None

    async def ask(self, step: Step, manifest: Manifest | None = None) -> Answer:
        """Ask the application, and wait for its answer; without a callback everything is allowed."""
        request, authorize, ask = _REQUESTS[step], self._hooks.authorize, self._hooks.ask
        # In a thread of its own: it may wait for a person, and other callbacks must not wait with it.
        if ask is None:
            allowed = authorize is None or await self._background.blocking(authorize, request) is not False
            return ALLOWED if allowed else rejected_for()
        answered: asyncio.Future[Answer] = self._background.loop.create_future()

        def settle(answer: Answer) -> None:
            if not answered.done():
                answered.set_result(answer)

        question = UpdateQuestion(request, manifest, lambda answer: self._background.defer(settle, answer))
        self._hooks.question = question
        try:
            await self._background.blocking(ask, question)
            return await answered
        finally:
            self._hooks.question = None

    def progress(self, done: int, total: int) -> None:
        """Tell the application how far it is; of several that it has not heard of yet, the last."""
        callback = self._hooks.progress
        if callback is not None:
            waiting, self._progress = self._progress, (done, total)
            if waiting is None:
                self._background.post(self._tell_progress, callback)

    def _tell_progress(self, callback: Callable[[int, int], object]) -> None:
        progress, self._progress = self._progress, None
        if progress is not None:
            callback(*progress)
