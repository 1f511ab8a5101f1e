"""A DTLS server's associations: by name, by where they are, and found again when they come from elsewhere."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator

from pdmlab.coap.allowance import Allowance, Allowances
from pdmlab.coap.dtls_association import Association
from pdmlab.coap.dtls_record import number_of
from pdmlab.coap.transport import Address

_MAX_JUMP = 1 << 20  # numbers that a restarted client may leave out
_LOOK = 1 / 16  # what it costs to look at an association, of what it costs to try its key


class Peers:
    """Associations, those that were silent longest first; `tries` is how many keys are tried in a second.

    That many for each host, with keys of its own associations, and as many for all hosts with those of others.
    """

    def __init__(self, tries: float) -> None:
        self._by_name: OrderedDict[Address, Association] = OrderedDict()
        self._by_address: dict[Address, Association] = {}
        self._by_host: dict[str, set[Association]] = {}
        self._near = Allowances(tries)
        self._far = Allowance(tries)

    def __repr__(self) -> str:
        return f"<Peers, {len(self)} at {len(self._by_host)} hosts>"

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[Association]:
        return iter(self._by_name.values())

    def named(self, name: Address) -> Association | None:
        """Return the association of that `Connection`."""
        return self._by_name.get(name)

    def at(self, address: Address) -> Association | None:
        """Return the association that spoke from an address last."""
        return self._by_address.get(address)

    def add(self, association: Association) -> None:
        """Take a new association."""
        self._by_name[association.name] = association
        self._enter(association)

    def remove(self, association: Association) -> None:
        """Forget an association."""
        del self._by_name[association.name]
        self._leave(association)

    def heard(self, association: Association, record: bytes, address: Address) -> None:
        """Note where a genuine record of it came from; only its newest one tells where it is now (RFC 9146 6)."""
        if address != association.address and number_of(record)[1] == association.protection.received:
            self._leave(association)
            association.address = address
            self._enter(association)
        self._by_name.move_to_end(association.name)

    def find(self, record: bytes, address: Address) -> tuple[Association, bytes] | None:
        """Find whose record it is that came from an unknown address, and what it carries; None if nobody's.

        A client that goes on from another port, or comes back after a reset, goes on counting. So those of its host
        are tried first, and among them those whose numbers end just before.
        """
        here = self._by_host.get(address[0], set())
        return self._try(record, here, len(here), self._near.of(address[0])) or self._try(
            record, (each for each in self if each not in here), len(self) - len(here), self._far
        )

    def _try(
        self, record: bytes, among: Iterable[Association], count: int, allowance: Allowance
    ) -> tuple[Association, bytes] | None:
        if not count or not allowance.take(count * _LOOK):
            return None
        number = number_of(record)[1]
        likely = [
            each for each in among if number - each.protection.received < _MAX_JUMP and each.protection.fresh(number)
        ]
        likely.sort(key=lambda each: abs(number - each.protection.received))
        for each in likely:
            if not allowance.take():
                return None
            if (data := each.protection.open(record)) is not None:
                return each, data
        return None

    def _enter(self, association: Association) -> None:
        self._by_address[association.address] = association
        self._by_host.setdefault(association.address[0], set()).add(association)

    def _leave(self, association: Association) -> None:
        if self._by_address.get(association.address) is association:
            del self._by_address[association.address]
        here = self._by_host[association.address[0]]
        here.discard(association)
        if not here:
            del self._by_host[association.address[0]]
