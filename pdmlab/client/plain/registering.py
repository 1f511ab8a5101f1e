"""Registration at one server: POST /rd, updates of what has changed, and DELETE (LwM2M 1.1 core, 6.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.client.plain.reading import LISTED
from pdmlab.client.plain.tree import ObjectTree
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.transport import Address
from pdmlab.errors import RegistrationFailed, ResponseError
from pdmlab.lwm2m.content import LINK_FORMAT
from pdmlab.lwm2m.linkformat import LinkList

UPDATE_AT = 0.75
"""The part of a lifetime after which a registration is updated, unless there is time to wait for MAX_TRANSMIT_WAIT."""


@dataclass(frozen=True)
class Terms:
    """What a registration says beside the objects: lifetime (s), binding, version of LwM2M, and queue mode."""

    lifetime: int
    binding: str
    version: str
    queue: bool

    def queries(self, endpoint_name: str) -> list[str]:
        """Return the queries of a registration."""
        binding = [f"b={self.binding}", "Q"] if self.queue and self.version != "1.0" else [f"b={self.binding_text}"]
        return [f"ep={endpoint_name}", f"lt={self.lifetime}", f"lwm2m={self.version}", *binding]

    @property
    def binding_text(self) -> str:
        """The binding as LwM2M 1.0 writes it, with the queue mode in it."""
        return self.binding + "Q" * (self.queue and self.version == "1.0")

    def changes(self, before: Terms) -> list[str]:
        """Return the queries of an update: only what is another than before."""
        said = []
        if self.lifetime != before.lifetime:
            said.append(f"lt={self.lifetime}")
        if self.binding_text != before.binding_text:
            said.append(f"b={self.binding_text}")
        return said


class Registration:
    """What the server knows of the device; `location` is where it filed it, () if it has not.

    queries: what the server's URI says beside its address.
    """

    def __init__(self, endpoint_name: str, tree: ObjectTree, queries: Sequence[str] = ()) -> None:
        self._endpoint_name = endpoint_name
        self._tree = tree
        self._queries = queries
        self._listed = b""
        self.location: tuple[str, ...] = ()
        self.terms = Terms(0, "U", "1.1", False)

    def _list(self, version: str) -> bytes:
        return bytes(LinkList(self._tree.links(), formats=(LISTED[version],)))

    async def register(self, endpoint: Endpoint, peer: Address, terms: Terms) -> None:
        """Register in full.

        Raises:
            ResponseError: the server refuses.
            RegistrationFailed: it does not say where.
            NetworkError: it does not answer.
        """
        self.location = ()
        listed = self._list(terms.version)
        queries = [*terms.queries(self._endpoint_name), *self._queries]
        request = Message(
            code=codes.POST, uri_path=("rd",), uri_query=queries, content_format=LINK_FORMAT, payload=listed
        )
        response = await endpoint.request(request, peer)
        if not response.code.is_successful():
            raise refused(response, "/rd", "is the endpoint name, the version or the identity what the server expects?")
        if not response.opt.location_path:
            raise RegistrationFailed("the LwM2M server registered the device and did not say where")
        self.location, self.terms, self._listed = response.opt.location_path, terms, listed

    async def update(self, endpoint: Endpoint, peer: Address, terms: Terms) -> bool:
        """Update it: POST what has changed; return False if the server does not know it any more.

        Raises:
            NetworkError: the server does not answer.
        """
        listed = self._list(terms.version)
        request = Message(code=codes.POST, uri_path=self.location, uri_query=terms.changes(self.terms))
        if listed != self._listed:
            request = request.copy(payload=listed, content_format=LINK_FORMAT)
        response = await endpoint.request(request, peer)
        if not response.code.is_successful():
            return False
        self.terms, self._listed = replace(terms, version=self.terms.version), listed
        return True

    async def withdraw(self, endpoint: Endpoint, peer: Address) -> None:
        """Deregister: DELETE its location.

        Raises:
            ResponseError: the server refuses.
            NetworkError: it does not answer.
        """
        location, self.location = self.location, ()
        response = await endpoint.request(Message(code=codes.DELETE, uri_path=location), peer)
        if not response.code.is_successful():
            raise refused(response, "/" + "/".join(location))


def time_to_update(lifetime: int, transmit_wait: float) -> float:
    """Return when after a registration it is updated (s): late, and with time for all retransmissions if there is."""
    return max(UPDATE_AT * lifetime, lifetime - transmit_wait)


def refused(response: Message, path: str, hint: str | None = None) -> ResponseError:
    """Return the error of a server that answered with one."""
    said = response.payload[:80].decode(errors="replace")
    message = f"the server answered {response.code} to {path}{': ' + said if said else ''}"
    return ResponseError(message, code=str(response.code), path=path, hint=hint)
