"""A registration at an LwM2M server: made, kept up, and withdrawn."""

from __future__ import annotations

from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.client.bootstrap import VERSION
from pdmlab.client.identity import Identity
from pdmlab.client.objects import LIFETIME, MIN_LIFETIME, ObjectTree
from pdmlab.client.server import PARAMETERS
from pdmlab.client.server_uri import ServerUri
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.transport import Address
from pdmlab.errors import ConfigError, RegistrationFailed, ResponseError
from pdmlab.lwm2m.content import LINK_FORMAT
from pdmlab.lwm2m.linkformat import Link, format_links

UPDATE_AT = 0.75
"""The part of a lifetime after which the registration is updated."""


class Registration:
    """What the server knows of the device: where it filed it, for how long, and with which resources."""

    def __init__(
        self, uri: ServerUri, endpoint_name: str, tree: ObjectTree, *, account_id: str | None = None, binding: str = "U"
    ) -> None:
        """Make one that is not registered yet. account_id: the account, without security None; binding: U, or UQ."""
        self._uri = uri
        self._endpoint_name = endpoint_name
        self._account_id = account_id
        self._binding = binding
        self._tree = tree
        self._registered: list[Link] = []
        self.location: tuple[str, ...] = ()
        self.lifetime = LIFETIME
        """How long it lasts: what the server was told, or has granted (s)."""
        self._asked = LIFETIME

    @classmethod
    def of(cls, identity: Identity, tree: ObjectTree, binding: str) -> Registration:
        """Return that of a device at its LwM2M server.

        Raises:
            ConfigError: with security, there is no account to register for.
        """
        account = identity.account_id if identity.lwm2m_security() is not None else None
        if account is None and identity.lwm2m_security() is not None:
            raise ConfigError(
                "neither the credentials nor the LwM2M server's URI name the account",
                hint="the URI that bootstrap writes needs ?aid=ACCOUNT",
            )
        uri = ServerUri.parse(identity.lwm2m_uri or "")
        return cls(uri, identity.endpoint_name, tree, account_id=account, binding=binding)

    @property
    def device_id(self) -> str:
        """The last segment of the location."""
        return self.location[-1]

    async def register(self, endpoint: Endpoint, peer: Address) -> None:
        """Register in full: POST /rd.

        Raises:
            ResponseError: the server refuses.
            RegistrationFailed: it does not say where.
            NetworkError: it does not answer.
        """
        links = self._tree.links()
        self.location, self.lifetime, self._asked = (), LIFETIME, LIFETIME
        queries = [f"ep={self._endpoint_name}", "et=default", f"lt={LIFETIME}", "lwm2m=1.0"]
        if self._account_id is None:
            queries += [f"b={self._binding}", *self._uri.queries]
        else:
            queries += [f"d={self._account_id}", f"b={self._binding}", *self._uri.queries, VERSION]
        request = Message(
            code=codes.POST,
            uri_path=("rd",),
            uri_query=queries,
            content_format=LINK_FORMAT,
            max_age=0,
            payload=format_links(links),
        )
        response = await endpoint.request(request, peer, block_size=PARAMETERS.block_size)
        if not response.code.is_successful():
            raise _refused(response, "/rd")
        if not response.opt.location_path:
            raise RegistrationFailed("the LwM2M server registered the device and did not say where")
        self.location = response.opt.location_path
        self._registered = links
        granted = response.opt.max_age
        if granted is not None and granted >= MIN_LIFETIME:
            self.lifetime = granted

    async def update(self, endpoint: Endpoint, peer: Address, lifetime: int) -> bool:
        """Update it: POST to its location; return False if the server does not know it any more.

        Raises:
            NetworkError: the server does not answer.
        """
        queries = ["et=default"]
        if lifetime != self._asked:
            queries.append(f"lt={lifetime}")
        links = self._tree.links()
        changed = _changes(self._registered, links)
        request = Message(
            code=codes.POST,
            uri_path=self.location,
            uri_query=queries,
            content_format=LINK_FORMAT,
            max_age=0,
            payload=format_links(changed),
        )
        response = await endpoint.request(request, peer, block_size=PARAMETERS.block_size)
        if not response.code.is_successful():
            return False
        if lifetime != self._asked:
            self.lifetime = self._asked = lifetime
        self._registered = links
        return True

    async def withdraw(self, endpoint: Endpoint, peer: Address) -> None:
        """Deregister: DELETE its location.

        Raises:
            ResponseError: the server refuses.
            NetworkError: it does not answer.
        """
        response = await endpoint.request(Message(code=codes.DELETE, uri_path=self.location), peer)
        location, self.location = self.location, ()
        if not response.code.is_successful():
            raise _refused(response, "/" + "/".join(location))


def _changes(old: list[Link], new: list[Link]) -> list[Link]:
    """Return what an update says: nothing unless resources have come or can be observed now, else all there are."""
    return new if {(each.path, each.obs) for each in old} != {(each.path, each.obs) for each in new} else []


def _refused(response: Message, path: str) -> ResponseError:
    said = response.payload[:80].decode(errors="replace")
    return ResponseError(
        f"the LwM2M server answered {response.code} to {path}{': ' + said if said else ''}",
        code=str(response.code),
        path=path,
    )
