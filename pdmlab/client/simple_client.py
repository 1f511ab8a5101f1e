"""SimpleMbedCloudClient: connect a board to device management in a few lines, beside its application.

client = SimpleMbedCloudClient(net, bd, fs)
client.init()
variable = client.create_resource("3201/0/5853", "variable")
variable.set_value("assign new value")
variable.methods(M2MMethod.GET | M2MMethod.PUT)
client.register_and_connect()
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import TypeVar

from pdmlab.capture import MessageLog
from pdmlab.client.error import Error
from pdmlab.client.hooks import Hooks, UpdateQuestion, UpdateRequest
from pdmlab.client.platform import platform
from pdmlab.client.provisioning import Provisioning
from pdmlab.client.resource import MbedCloudClientResource
from pdmlab.client.session import Session
from pdmlab.client.steps import ConnectionSteps
from pdmlab.coap.transport import Address, text_of
from pdmlab.errors import BoardError, ConfigError
from pdmlab.lwm2m.dialect import LwM2M
from pdmlab.network.interface import NetworkInterface
from pdmlab.storage.blockdevice import BlockDevice
from pdmlab.storage.filesystem import FileSystem
from pdmlab.update.components import MAIN, MAX_COMPONENTS, Component

T = TypeVar("T")


@dataclass(frozen=True)
class ConnectorClientEndpointInfo:
    """Who the registered device is; internal_endpoint_name is its device id."""

    endpoint_name: str
    account_id: str
    internal_endpoint_name: str
    lwm2m_server_uri: str


class SimpleMbedCloudClient:
    """Device management beside an application: it never blocks the application's loop.

    Make it in code that runs on a board. Its methods may be called from any thread.

    Args:
        net: a network interface, connected by the application.
        bd, fs: the block device and the file system on it, where credentials are kept.
        format_storage_layer_on_error: make the storage anew when it holds no credentials that can be opened.
        confirm_when_registered: keep a new firmware, which the bootloader may have started on trial, once it has
            registered; False leaves that to confirm_firmware().
    """

    def __init__(
        self,
        net: NetworkInterface,
        bd: BlockDevice,
        fs: FileSystem,
        *,
        format_storage_layer_on_error: bool = True,
        confirm_when_registered: bool = True,
    ) -> None:
        self._platform = platform()
        self._context = contextvars.copy_context()  # which board this is
        self._net = net
        self._provisioning = Provisioning(self._platform, bd, fs, format_on_error=format_storage_layer_on_error)
        self._resources: list[MbedCloudClientResource] = []
        self._session: Session | None = None
        self._on_registered: Callable[[ConnectorClientEndpointInfo], object] | None = None
        self._on_unregistered: Callable[[], object] | None = None
        self._on_error: Callable[[int, str], object] | None = None
        self._hooks = Hooks(
            self._registered, self._unregistered, self._failed, confirm_when_registered=confirm_when_registered
        )
        self.error_description = ""
        """What the last error was about."""
        self.log = MessageLog(endpoint="device", clock=self._platform.clock.name, dialect=LwM2M(), own=True)
        """Every message of the client, decoded."""
        self.steps = ConnectionSteps(self._platform.clock)
        """How long each step of its connections took: TCP, handshake, bootstrap, registration."""

    # -- set up ----------------------------------------------------------------------------------------

    def init(self, format: bool = False) -> int:
        """Open the storage and the credentials in it, making both where there are none; return 0, or an error's number.

        format: make the storage anew in any case; the device gets another identity. `pdmlab.explain` knows the number.
        """
        return self._on_board(lambda: self._provisioning.init(format=format))

    def reformat_storage(self) -> int:
        """Make an empty file system; return 0, or an error's number."""
        return self._on_board(self._provisioning.reformat)

    def create_resource(self, path: str, name: str) -> MbedCloudClientResource:
        """Make a resource, such as "3201/0/5853"; the server may read it unless its methods() say otherwise.

        Raises:
            ConfigError: the path is none of a resource, or taken.
        """
        resource = MbedCloudClientResource(path, name)
        if any(each.path == resource.path for each in self._resources):
            raise ConfigError(f"{resource.path} is there already", hint="keep what create_resource() returned")
        if self._session is not None:
            self._session.add(resource)
            self._session.update()
        self._resources.append(resource)
        return resource

    def add_component(self, component: Component) -> None:
        """Let updates bring a component that the application installs itself; call it before register_and_connect().

        Raises:
            ConfigError: there is one of that name, or one too many, or the device is connected already; or its
                bootloader goes with the older update hub, which knows no components.
        """
        if self._platform.bootloader.kind == "mbed":
            raise ConfigError(
                "the older update hub knows no components", hint="a board with the bootloader fota or trial has them"
            )
        if self._session is not None:
            raise ConfigError("a registered device gets no more components", hint="add them before registering")
        if len(self._hooks.components) + 1 == MAX_COMPONENTS:
            raise ConfigError(f"a device has at most {MAX_COMPONENTS} components, the firmware among them")
        if component.name in (MAIN, *(each.name for each in self._hooks.components)):
            raise ConfigError(f"there is a component {component.name}", hint="MAIN is the firmware itself")
        self._hooks.components += (component,)

    # -- connect ---------------------------------------------------------------------------------------

    def register_and_connect(self) -> bool:
        """Bootstrap if need be, register, and stay registered, beside the caller; return False if under way already.

        Raises:
            ConfigError: init() has not been called, or has failed; or a resource has a path of the client's own.
        """
        if self._session is not None:
            return False
        identity = self._provisioning.identity
        if identity is None and self._platform.image.credentials is None:
            raise ConfigError(
                "the firmware has no credentials compiled in: where it was built there was no"
                " mbed_cloud_dev_credentials.c in the working folder, and no service ran in the same process",
                hint="`pdmlab dm init` writes the file, --credentials-only where update keys are there already, and so"
                " does the page's Credentials; the setting `credentials` names one elsewhere; then build it again",
            )
        if identity is None:
            raise ConfigError(
                "the client has no credentials to connect with", hint="call init() first, and look at what it returns"
            )

        def start() -> None:
            self._session = Session(
                self._platform, self._net, identity, self._resources, self._hooks, self.log, self.steps
            )
            self._session.start()

        self._on_board(start)
        return True

    def register_update(self) -> None:
        """Update the registration now, in the background."""
        if self._session is not None:
            self._session.update()

    def confirm_firmware(self) -> None:
        """Keep the firmware that runs: one that a bootloader has started on trial goes at the next start otherwise.

        Raises:
            StorageError: it cannot be kept.
        """
        self._on_board(self._platform.bootloader.confirm)

    def close(self) -> None:
        """Deregister and disconnect, in the background; on_unregistered hears of it."""
        if self._session is not None:
            self._session.close()

    def is_client_registered(self) -> bool:
        """Return whether the server knows the device."""
        return self._session is not None and self._session.is_registered

    def _on_board(self, work: Callable[[], T]) -> T:
        """Run device code: as it is when the caller is on the board, else in a thread of the board's."""
        clock = self._platform.clock
        if clock.loop.is_closed():
            raise BoardError("the board of this client is closed", hint="open it again, and make another client on it")
        return work() if clock.inside else self._context.copy().run(clock.call, work)

    # -- callbacks: each runs in a thread of the client's, one after the other, and may block -------------

    def on_registered(self, callback: Callable[[ConnectorClientEndpointInfo], object] | None) -> None:
        """Call back with who the device is when it has registered."""
        self._on_registered = callback

    def on_unregistered(self, callback: Callable[[], object] | None) -> None:
        """Call back when close() has done its work."""
        self._on_unregistered = callback

    def on_error(self, callback: Callable[[int, str], object] | None) -> None:
        """Call back with an error's number and its name, instead of printing both; error_description says more."""
        self._on_error = callback

    def on_update_authorized(self, callback: Callable[[UpdateRequest], object] | None) -> None:
        """Ask before an update downloads and before it installs; the callback refuses by returning False."""
        self._hooks.authorize = callback

    def on_update_question(self, callback: Callable[[UpdateQuestion], object] | None) -> None:
        """Ask likewise, but wait for an answer that may come later: authorize(), reject() or defer() of the question.

        It goes before on_update_authorized().
        """
        self._hooks.ask = callback

    def update_authorize(self, request: UpdateRequest) -> None:
        """Let an update go on whose question is open; otherwise do nothing."""
        if (question := self._open(request)) is not None:
            question.authorize()

    def update_reject(self, request: UpdateRequest, reason: int = 0) -> None:
        """End an update whose question is open, or that was put off; reason goes to the console."""
        if (question := self._open(request)) is not None:
            question.reject(reason)
        elif self._session is not None:
            self._session.refuse_update(reason)

    def update_defer(self, request: UpdateRequest) -> None:
        """Put an update off whose question is open, until the next start or update_resume()."""
        if (question := self._open(request)) is not None:
            question.defer()

    def update_resume(self) -> None:
        """Go on with an update that was put off; the application is asked again."""
        if self._session is not None:
            self._session.resume_update()

    def _open(self, request: UpdateRequest) -> UpdateQuestion | None:
        question = self._hooks.question
        return question if question is not None and question.request == request else None

    def on_update_progress(self, callback: Callable[[int, int], object] | None) -> None:
        """Call back with the bytes downloaded, and how many there are."""
        self._hooks.progress = callback

    # -- who it is ---------------------------------------------------------------------------------------

    @property
    def endpoint_info(self) -> ConnectorClientEndpointInfo | None:
        """Who the device is at its service; None before the first registration."""
        identity = self._provisioning.identity
        if identity is None or identity.device_id is None:
            return None
        return ConnectorClientEndpointInfo(
            identity.endpoint_name,
            identity.account_id or "",
            identity.device_id,
            identity.lwm2m_uri or "",
        )

    @property
    def device_id(self) -> str | None:
        """The device's id at its service (32 hex digits), once it has one."""
        info = self.endpoint_info
        return info.internal_endpoint_name if info is not None else None

    @property
    def endpoint_name(self) -> str | None:
        """The name that the device registers by: the one in its certificate, or credentials; after init()."""
        identity = self._provisioning.identity
        return identity.endpoint_name if identity is not None else None

    @property
    def address(self) -> Address | None:
        """The UDP port where the device answers anybody; None while it is not connected, or has a connection.

        Over TLS, DTLS and TCP it answers its server only: `server`.
        """
        return self._session.address if self._session is not None else None

    @property
    def server(self) -> Address | None:
        """The LwM2M server that the device is connected to; None while it is not."""
        return self._session.server if self._session is not None else None

    @property
    def time(self) -> int:
        """What time the device thinks it is (s since 1970); 0 until a server has told it."""
        time = self._session.time if self._session is not None else None
        return time.now() if time is not None else 0

    def __repr__(self) -> str:
        state = "registered" if self.is_client_registered() else "not registered"
        return f"<SimpleMbedCloudClient {self.endpoint_name}, device {self.device_id}, {state}>"

    def _repr_html_(self) -> str:
        address, server = self.address, self.server
        rows = {
            "registered": "yes" if self.is_client_registered() else "no",
            "device id": self.device_id or "none yet",
            "endpoint name": self.endpoint_name or "none before init()",
            "connected to": text_of(server) if server else "nobody",
            "answers at": f"coap://{address[0]}:{address[1]}"
            if address
            else "its connection only"
            if server
            else "nowhere",
            "resources": ", ".join(f"{each.path} {each.name}" for each in self._resources) or "the client's own",
            "last error": self.error_description or "none",
        }
        cells = "".join(
            f"<tr style='text-align:left'><th>{escape(name)}</th><td>{escape(value)}</td></tr>"
            for name, value in rows.items()
        )
        return f"<table><caption>SimpleMbedCloudClient</caption>{cells}</table>"

    # -- what the session tells ----------------------------------------------------------------------------

    def _registered(self) -> None:
        info = self.endpoint_info
        if self._on_registered is not None and info is not None:
            self._on_registered(info)

    def _unregistered(self) -> None:
        self._session = None
        if self._on_unregistered is not None:
            self._on_unregistered()

    def _failed(self, error: Error, details: str) -> None:
        self.error_description = details
        if self._on_error is not None:
            self._on_error(int(error), str(error))
            return
        lines = (f"\r\n[SMCC] Error occurred : {error}", f"[SMCC] Error code : {int(error)}")
        self._platform.uart.write("\r\n".join((*lines, f"[SMCC] Error details : {details}\r\n")))
