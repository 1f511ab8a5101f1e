"""Suites by name: put one on a board that can be flashed with it, run it, and say what came of it.

>>> run(board, "fs-single").rows
>>> run(board, "connect", cloud=pdmlab.Cloud(service.url, service.api_key))
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, cast

from pdmlab.errors import ConfigError, FlashFailed, ImageRejected
from pdmlab.greentea.board import Board
from pdmlab.greentea.host_tests import HostTests
from pdmlab.greentea.management import Cloud, CloudManagement
from pdmlab.greentea.result import Result, Word
from pdmlab.greentea.runner import board_name, measured_on, run_suite
from pdmlab.greentea.sdk_host_tests import SdkHostTests
from pdmlab.update.bootloaders.interface import Kind
from pdmlab.update.credentials import Credentials, UpdateResources
from pdmlab.update.developer import Developer

MANAGED = ("connect", "update")
"""The suites that need a service."""
ACCOUNT = "MBED_CLOUD_DEV_ACCOUNT_ID"
UPDATE_VERSION = "1.0.1"
"""Of the update that `update` installs over 1.0.0."""
SIGNED: Kind = "trial"
"""The bootloader that starts signed images only."""


class Buildable(Protocol):
    """A board that images can be built for: a virtual one."""

    def flash_application(
        self, name: str, *, credentials: Credentials | None, update_resources: UpdateResources | None
    ) -> None:
        """Flash an application with what is compiled into it, and restart."""
        ...

    def build(
        self,
        application: str,
        *,
        version: str,
        credentials: Credentials | None,
        update_resources: UpdateResources | None,
    ) -> bytes:
        """Build an image of an application."""
        ...

    def installed(self) -> Any:  # an ImageInfo, which has a mapping of credentials
        """Return what the installed image says of itself."""
        ...

    @property
    def bootloader(self) -> str:
        """The kind of its bootloader."""
        ...


def run(
    board: Board,
    suite: str,
    *,
    cloud: Cloud | None = None,
    developer: Developer | None = None,
    update_image: bytes | None = None,
    update_version: str = UPDATE_VERSION,
    credentials: Credentials | None = None,
    update_resources: UpdateResources | None = None,
    sign_image: bool | None = None,
    host_tests: HostTests | None = None,
    **options: Any,  # as run_suite takes them
) -> Result:
    """Run a suite by its name. A virtual board is flashed with it; on a real one it is taken to be there already.

    In a log that is replayed it is taken to be what the log is of; it needs no service, whose answers are in the log.

    Args:
        cloud: the service that `connect` and `update` are to register with.
        developer: whose keys sign the update (a service's `developer`).
        update_image, update_version: the image that `update` installs; on a virtual board it is built.
        credentials, update_resources: what is compiled into a virtual board's images, instead of the project's.
        sign_image: sign the image of `update` as well, and not its manifest alone; None: if a virtual board's
            bootloader starts signed images only.
        options: as run_suite takes them: sync, sync_timeout, timeout, target, on_event, save, data.

    Raises:
        ConfigError: the suite needs a service, and none was given.
    """
    tests: dict[str, Any] = dict(host_tests or {})
    recorded = getattr(board, "recorded", False)
    if cloud is None and suite in MANAGED and "sdk_host_tests" not in tests and not recorded:
        raise ConfigError(
            f"the suite {suite!r} needs a service to register with",
            hint="service = pdmlab.serve(); run(board, …, cloud=pdmlab.Cloud(service.url, service.api_key), "
            "developer=service.developer)",
        )
    buildable = cast("Buildable", board) if hasattr(board, "flash_application") else None
    if buildable is not None:
        try:
            buildable.flash_application(suite, credentials=credentials, update_resources=update_resources)
        except (FlashFailed, ImageRejected) as error:
            word: Word = "NO_IMAGE" if isinstance(error, ImageRejected) else "IOERR_COPY"
            return Result(
                suite, board_name(board), word, error.message, error.hint or "", measured=measured_on(board, suite)
            )
    if cloud is not None:
        if sign_image is None:
            sign_image = buildable is not None and buildable.bootloader == SIGNED
        management = CloudManagement(cloud, developer, version=update_version, sign_image=sign_image)
        image: Callable[[], bytes] | None = None if update_image is None else lambda: update_image
        if image is None and buildable is not None:
            image = partial(
                buildable.build, "update", version=update_version, credentials=credentials,
                update_resources=update_resources,
            )  # fmt: skip
        account = _account(buildable)
        tests.setdefault("sdk_host_tests", lambda: SdkHostTests(management, account_id=account, update_image=image))
    return run_suite(board, suite, host_tests=tests, **options)


def _account(board: Buildable | None) -> str | None:
    """Return the account that is compiled into what is installed, if it can be told."""
    installed = board.installed() if board is not None else None
    credentials = getattr(installed, "credentials", None) or {}
    account = credentials.get(ACCOUNT)
    return str(account) if account else None
