"""Bootstrap: the device asks who manages it, and its bootstrap server writes it accounts (LwM2M 1.1 core, 6.1)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.client.plain.accounts import BOOTSTRAP, Account, accounts_of
from pdmlab.client.plain.answering import answer, format_of, path_of
from pdmlab.client.plain.connecting import HostNetwork, Network, connection
from pdmlab.client.plain.discovering import bootstrap_discovered
from pdmlab.client.plain.objects import Content, Refusal, TableObject
from pdmlab.client.plain.reading import default_format
from pdmlab.client.plain.standard import Server, ServerObject
from pdmlab.client.plain.tree import SECURITY, SERVER, ObjectTree
from pdmlab.client.plain.writing import read_payload
from pdmlab.coap.endpoint import Endpoint, Tap
from pdmlab.coap.parameters import TransmissionParameters
from pdmlab.coap.transport import Address
from pdmlab.errors import BootstrapFailed, ConfigError, Lwm2mError, TimedOut
from pdmlab.lwm2m.content import LINK_FORMAT, SENML_CBOR
from pdmlab.lwm2m.paths import Path
from pdmlab.lwm2m.payload import Values, encode_all

PARAMETERS = TransmissionParameters(max_body=1 << 20)
ACCESS_CONTROL = 2
READABLE = (SERVER, ACCESS_CONTROL)
"""What a bootstrap server may read (LwM2M 1.1 core, 6.1.7.6)."""


async def bootstrap(
    account: Account,
    tree: ObjectTree,
    endpoint_name: str,
    version: str,
    network: Network | HostNetwork,
    *,
    seed: Callable[[Address], int | None],
    tap: Tap,
) -> Endpoint:
    """Ask the bootstrap server of an account, take what it writes into the tree, and return once it has finished.

    The endpoint that is returned still answers the server, which may not have heard that it was understood; the
    caller ends it. When bootstrap fails, the tree is as it was before. `seed` is of tokens and IDs towards a peer.

    Raises:
        BootstrapFailed: the server refused, or wrote accounts that make no sense.
        NetworkError: it cannot be reached, or fell silent for EXCHANGE_LIFETIME (247 s).
    """
    opener, peer = await connection(account, network)
    sequence = BootstrapInterface(tree, version, peer)
    before = sequence.snapshot()
    endpoint = await Endpoint.open(opener, sequence, parameters=PARAMETERS, seed=seed(peer), tap=tap)
    try:
        queries = [f"ep={endpoint_name}", *([f"pct={SENML_CBOR}"] if version != "1.0" else []), *account.uri.queries]
        response = await endpoint.request(Message(code=codes.POST, uri_path=("bs",), uri_query=queries), peer)
        if not response.code.is_successful():
            said = response.payload[:80].decode(errors="replace")
            raise BootstrapFailed(f"the bootstrap server answered {response.code} {said}".rstrip())
        await sequence.finished()
    except BaseException:
        endpoint.abort()
        sequence.restore(before)
        raise
    return endpoint


class BootstrapInterface:
    """Takes what a bootstrap server does, whatever the objects otherwise allow."""

    def __init__(self, tree: ObjectTree, version: str, peer: Address) -> None:
        self._tree = tree
        self._version = version
        self._peer = peer
        self._loop = asyncio.get_running_loop()
        self._finished = self._loop.create_future()
        self._heard = self._loop.time()

    def _tables(self) -> list[TableObject]:
        return [each for each in self._tree if isinstance(each, TableObject)]

    def snapshot(self) -> dict[int, dict[int, dict[int, Content]]]:
        """Return a copy of what is in the tree."""
        return {each.id: each.snapshot() for each in self._tables()}

    def restore(self, before: dict[int, dict[int, dict[int, Content]]]) -> None:
        """Set the tree back to a copy."""
        for each in self._tables():
            each.restore(before[each.id])

    async def finished(self) -> None:
        """Wait for the server's Finish.

        Raises:
            TimedOut: it fell silent.
            BootstrapFailed: it finished, and the accounts make no sense.
        """
        while not self._finished.done():
            try:
                async with asyncio.timeout_at(self._heard + PARAMETERS.exchange_lifetime):
                    await asyncio.shield(self._finished)
            except TimeoutError:
                if self._loop.time() >= self._heard + PARAMETERS.exchange_lifetime:
                    where = f"{self._peer[0]}:{self._peer[1]}"
                    raise TimedOut(
                        f"the bootstrap server at {where} fell silent for {PARAMETERS.exchange_lifetime:g} s"
                    ) from None
        why = self._finished.result()
        if why is not None:
            raise BootstrapFailed(f"the bootstrap server finished, and {why}", hint="what did it write to /0 and /1?")

    async def __call__(self, request: Message, peer: Address) -> Message:
        if peer != self._peer:
            return answer(codes.UNAUTHORIZED, "this device is being bootstrapped from elsewhere")
        self._heard = self._loop.time()
        try:
            return self._answer(request)
        except Refusal as refusal:
            return answer(refusal.code, refusal.message)

    def _answer(self, request: Message) -> Message:
        if request.opt.uri_path == ("bs",) and request.code == codes.POST:
            return self._finish()
        path = path_of(request)
        if request.code == codes.DELETE:
            return self._delete(path)
        if request.code == codes.PUT and path is not None:
            self._write(path, read_payload(self._tree, path, request.payload, format_of(request)))
            return answer(codes.CHANGED)
        if request.code == codes.GET:
            return self._get(path, request)
        raise Refusal(codes.METHOD_NOT_ALLOWED)

    # -- discover, read --------------------------------------------------------------------------------------

    def _get(self, path: Path | None, request: Message) -> Message:
        accept = None if request.opt.accept is None else int(request.opt.accept)
        if accept == LINK_FORMAT:
            if path is not None and (path.instance is not None or path.object not in self._tree):
                raise Refusal(codes.NOT_FOUND, f"there is no object {path}")
            links = bytes(bootstrap_discovered(self._tree, path, self._version))
            return Message(code=codes.CONTENT, payload=links, content_format=LINK_FORMAT)
        if path is None or path.object not in READABLE or path.resource is not None:
            raise Refusal(codes.METHOD_NOT_ALLOWED, "a bootstrap server reads /1 and /2, and their instances")
        if not self._tree.exists(path):
            raise Refusal(codes.NOT_FOUND, f"there is no {path}")
        format = default_format(self._version) if accept is None else accept
        try:
            payload = encode_all(self._tree.values(path, secret=True), self._tree.type_of, format, path)
        except Lwm2mError as error:
            raise Refusal(codes.NOT_ACCEPTABLE, error.message) from error
        return Message(code=codes.CONTENT, payload=payload, content_format=format)

    # -- delete ----------------------------------------------------------------------------------------------

    def _delete(self, path: Path | None) -> Message:
        """Take away an instance, those of an object, or all; never a bootstrap account, nor what the device has."""
        if path is not None and path.resource is not None:
            raise Refusal(codes.BAD_REQUEST, "objects and instances are deleted")
        if path is not None and path.object not in self._tree:
            raise Refusal(codes.NOT_FOUND, f"there is no object {path}")
        found = self._tables() if path is None else [each for each in self._tables() if each.id == path.object]
        if path is not None and (found[0].fixed or (path.instance is not None and _is_bootstraps(found[0], path))):
            raise Refusal(codes.BAD_REQUEST, f"{path} stays")
        for each in found:
            for instance in each.instances() if not each.fixed else ():
                here = Path.of(each.id, instance)
                if (path is None or path.contains(here)) and not _is_bootstraps(each, here):
                    each.drop(instance)
        return answer(codes.DELETED)

    # -- write -----------------------------------------------------------------------------------------------

    def _write(self, path: Path, values: Values) -> None:
        if path.object not in self._tree:
            raise Refusal(codes.NOT_FOUND, f"there is no object /{path.object}")
        table = self._tree[path.object]
        if not isinstance(table, TableObject):
            raise Refusal(codes.METHOD_NOT_ALLOWED, f"/{path.object} is not for the bootstrap server")
        instances: dict[int, dict[int, Content]] = {}
        for where, value in values.items():
            _, instance, resource = where.ids
            known = table.definition(resource)
            if known is None or known.type is None:
                continue  # an optional resource that this device has not (LwM2M 1.1 core, 6.1.7.3)
            if known.multiple != isinstance(value, dict):
                raise Refusal(codes.BAD_REQUEST, f"{where} has {'instances' if known.multiple else 'one value'}")
            instances.setdefault(instance, {})[resource] = value
        if path.instance is not None:
            instances.setdefault(path.instance, {})
        if table.fixed and not set(instances) <= set(table.instances()):
            raise Refusal(codes.BAD_REQUEST, f"/{path.object} has one instance")
        for instance, resources in instances.items():
            # An instance is replaced by what is written of it; a resource leaves the others alone.
            if instance not in table.instances() or (path.resource is None and not table.fixed):
                table.add(instance, resources)
            else:
                for resource, value in resources.items():
                    table.write(instance, resource, value)

    # -- finish ----------------------------------------------------------------------------------------------

    def _finish(self) -> Message:
        why = self.inconsistency()
        if not self._finished.done():
            self._finished.set_result(why)
        return answer(codes.CHANGED) if why is None else answer(codes.NOT_ACCEPTABLE, why)

    def inconsistency(self) -> str | None:
        """Return what is wrong with the accounts; None if nothing is."""
        security, servers = self._tree[SECURITY], self._tree[SERVER]
        assert isinstance(security, TableObject) and isinstance(servers, ServerObject)
        try:
            accounts = [each for each in accounts_of(security) if not each.bootstrap]
            for each in accounts:
                each.security()
        except ConfigError as error:
            return error.message
        return _mismatch([each.short_id for each in accounts], servers)


def _is_bootstraps(table: TableObject, path: Path) -> bool:
    """Return whether a path is an account of a bootstrap server."""
    instance = path.instance
    if table.id != SECURITY or instance not in table.instances() or instance is None:
        return False
    return BOOTSTRAP in table.resources(instance) and table.read(instance, BOOTSTRAP) is True


def _mismatch(accounts: Sequence[int], servers: ServerObject) -> str | None:
    if not accounts:
        return "there is no account of an LwM2M server in /0"
    if len(set(accounts)) != len(accounts):
        return f"two accounts in /0 have one short server id: {sorted(accounts)}"
    described = {}
    for instance in servers.instances():
        there = servers.resources(instance)
        missing = [each.name for each in (Server.SHORT_ID, Server.LIFETIME, Server.BINDING) if each not in there]
        if missing:
            return f"/1/{instance} has no {' and no '.join(missing)}"
        described[servers.number(instance, Server.SHORT_ID, 0)] = instance
    if odd := set(described) ^ set(accounts):
        return f"the short server ids in /0 and /1 do not match: {sorted(odd)}"
    return None
