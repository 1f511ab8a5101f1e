"""A service and a board on one virtual clock, with a link between them: where whole updates are measured."""

from __future__ import annotations

import asyncio
import datetime
import functools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from pdmlab.clock import SECOND, DeviceClock
from pdmlab.errors import NotMeasurable
from pdmlab.firmware.image import ImageInfo, build_image
from pdmlab.network.fabric import Fabric
from pdmlab.network.link import Link
from pdmlab.update.bootloaders import DEFAULT, Kind
from pdmlab.update.credentials import Credentials, UpdateResources
from pdmlab.update.developer import update_certificate

if TYPE_CHECKING:
    from pdmlab.service.core import Core
    from pdmlab.sim.board import VirtualBoard

EPOCH = 1_767_225_600.0  # 2026-01-01T00:00:00Z
LONGEST_S = 7 * 24 * 3600
"""Device time that anything awaited may take (s)."""
LOOK_S = 1.0
_PORTS = 5683, 5685


@functools.cache
def update_key() -> ec.EllipticCurvePrivateKey:
    """Return the key that the boards of these labs believe."""
    return ec.derive_private_key(0x5EED, ec.SECP256R1())


@functools.cache
def update_resources() -> UpdateResources:
    """Return what these boards are built with; made once, as a certificate's signature is another each time."""
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    return UpdateResources(b"v" * 16, b"c" * 16, update_certificate(update_key(), "company.com", now))


@dataclass
class VirtualLab:
    """One board that has registered with a service of its own."""

    clock: DeviceClock
    fabric: Fabric
    core: Core
    board: VirtualBoard
    console: str = ""

    @property
    def device_id(self) -> str:
        """The id of the device that is registered."""
        (registration,) = self.core.registrations
        return registration.device_id

    @property
    def certificate(self) -> x509.Certificate:
        """The update certificate that the board is built with."""
        return x509.load_der_x509_certificate(update_resources().default_certificate)

    def build(self, version: str, *, size: int, options: Mapping[str, object] | None = None) -> bytes:
        """Build the example application for this board and this service."""
        info = ImageInfo(
            "example",
            version,
            credentials=Credentials("measured", self.core.bootstrap_uri, self.core.account_id).to_mapping(),
            update_resources=update_resources().to_mapping(),
            options=options or {},
        )
        layout = self.board.layout
        return build_image(info, size=size, load_address=layout.address(layout.application))

    def offer(self, payload: bytes) -> str:
        """Put a payload into the service; return the URI that devices fetch it by."""
        row = self.core.firmware.add_image(self.core.account_id, "payload", payload)
        return f"http://127.0.0.1/v3/firmware-images/{row['id']}/firmware.bin"

    def read_console(self) -> str:
        """Return what the board has printed since the last look."""
        said = self.board.uart.host_read(1 << 20, 0).decode("utf-8", "replace")
        self.console += said
        return said

    async def until(self, condition: Callable[[], object], what: str, seconds: float = LONGEST_S) -> None:
        """Wait until a condition holds.

        Raises:
            NotMeasurable: it does not, in that device time (s).
        """
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            raise NotMeasurable(f"in {seconds:g} s of device time it has not come to this: {what}") from None


def play(
    story: Callable[[VirtualLab], Awaitable[None]],
    target: str,
    *,
    seed: int,
    link: Link,
    bootloader: Kind = DEFAULT,
) -> None:
    """Set up a service and a board of that target without power, and tell a story of them, in virtual time."""
    from pdmlab.service.core import Core
    from pdmlab.sim.board import VirtualBoard

    with DeviceClock() as clock:
        fabric = Fabric(clock, seed)
        core = Core("sqlite://", now=lambda: EPOCH + clock.now() / SECOND, seed=seed)

        async def told(board: VirtualBoard) -> None:
            host = fabric.host("service")
            await core.start(bootstrap=host.opener(_PORTS[0]), lwm2m=host.opener(_PORTS[1]))
            try:
                await story(VirtualLab(clock, fabric, core, board))
            finally:
                fabric.tap = None
                await core.stop()

        with VirtualBoard(
            target, id="measured", memory=True, clock=clock, fabric=fabric, seed=seed, bootloader=bootloader,
            power=False,
        ) as board:  # fmt: skip
            board.network.link = link
            clock.call_async(told(board))
