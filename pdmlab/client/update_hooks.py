"""What an update asks and tells the application: whether it may go on, and how far it is."""

from __future__ import annotations

from collections.abc import Callable

from pdmlab.client.background import Background
from pdmlab.client.hooks import Hooks, UpdateRequest
from pdmlab.update.download import Step

_REQUESTS = {Step.DOWNLOAD: UpdateRequest.Download, Step.INSTALL: UpdateRequest.Install}


class UpdateHooks:
    """An application's hooks, called in device threads while an update goes on."""

    def __init__(self, hooks: Hooks, background: Background) -> None:
        self._hooks = hooks
        self._background = background
        self._progress: tuple[int, int] | None = None

    async def authorise(self, step: Step) -> bool:
        """Ask the application; without a callback everything is allowed."""
        callback = self._hooks.authorize
        # In a thread of its own: it may wait for a person, and other callbacks must not wait with it.
        return callback is None or await self._background.blocking(callback, _REQUESTS[step]) is not False

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
