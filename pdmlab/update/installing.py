"""The application's part of an installation: its installers, one component or a package of parts, and their verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pdmlab.errors import PdmlabError
from pdmlab.update.components import Component, Installation, SubComponent
from pdmlab.update.interface import DownloadFailed
from pdmlab.update.payloads.combined import Package, PackedImage
from pdmlab.update.results import FotaResult

DONE = 0
"""What finalize is told of an update that succeeded."""


def install(component: Component, whole: Installation, *, combined: bool) -> None:
    """Call a component's installer, or those of the parts in a package; blocking.

    Raises:
        DownloadFailed: (40) one of them refuses; what the parts before it did is rolled back then.
        ManifestRejected: the package is none that fits the component (46 to 49, 41).
    """
    if not combined:
        _ask(component.install, whole, f"the installer of {component.name}")
        return
    done: list[tuple[SubComponent, Installation]] = []
    parts = _parts(component, whole)
    for part, image in parts:
        try:
            done.append((part, image))
            _ask(part.install, image, f"the installer of {component.name}/{part.name}")
        except DownloadFailed as error:
            _undo(parts, done, error)
            raise


def verify(component: Component, whole: Installation, *, combined: bool) -> None:
    """Ask whether the new image works, part by part if it came so; blocking.

    Raises:
        DownloadFailed: (40) it does not; parts have been rolled back.
        ManifestRejected: the package is none any more.
    """
    if not combined:
        _ask(component.verify, whole, f"the verification of {component.name}")
        return
    parts = _parts(component, whole)
    for part, image in parts:
        try:
            _ask(part.verify, image, f"the verification of {component.name}/{part.name}")
        except DownloadFailed as error:
            _undo(parts, parts, error)
            raise
    _finalize(parts, DONE)


def _parts(component: Component, whole: Installation) -> list[tuple[SubComponent, Installation]]:
    package = Package.read(whole.read, whole.size, names=[part.name for part in component.parts])
    images = {image.name: image for image in package.images}
    return [(part, _image(whole, images[part.name])) for part in component.parts]


def _image(whole: Installation, image: PackedImage) -> Installation:
    def read(position: int, size: int) -> bytes:
        return whole.read(image.offset + position, max(0, min(size, image.size - position)))

    return replace(whole, part=image.name, size=image.size, vendor_data=image.vendor_data, read=read)


def _undo(
    parts: list[tuple[SubComponent, Installation]], done: list[tuple[SubComponent, Installation]], why: DownloadFailed
) -> None:
    for part, image in reversed(done):
        if part.rollback is not None:
            _attempt(lambda part=part, image=image: part.rollback(image))  # type: ignore[misc]
    _finalize(parts, int(why.result))


def _finalize(parts: list[tuple[SubComponent, Installation]], result: int) -> None:
    for part, image in parts:
        if part.finalize is not None:
            _attempt(lambda part=part, image=image: part.finalize(image, result))  # type: ignore[misc]


def _ask(handler: Callable[[Installation], object] | None, image: Installation, what: str) -> None:
    refused = None if handler is None else _attempt(lambda: handler(image))
    if refused is not None:
        raise DownloadFailed(FotaResult.INSTALL_FAILED, f"{what} {refused}")


def _attempt(work: Callable[[], object]) -> str | None:
    """Call the application; say how it refused, if it did."""
    try:
        return "refused" if work() is False else None
    except PdmlabError as error:
        return f"failed: {error.message}"
    except Exception as error:  # the application's own code: its update must end, and the device stay up
        return f"failed: {type(error).__name__}: {error}"
