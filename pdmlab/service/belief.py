"""Whom the two servers let in: by a chain of certificates that leads to a CA which an account trusts, or to its own.

All of it is read from the database when it is asked, in each handshake: what an account sets holds at once, in every
process that has the database.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from pdmlab.coap.judging import leads_to
from pdmlab.coap.transport import Identity
from pdmlab.service.authority import MAX_CHAIN, is_weak, key_of_name
from pdmlab.service.proof import proof_of
from pdmlab.service.schema import trusted_certificates as table
from pdmlab.service.statements import Statement
from pdmlab.service.store import Row, Rows
from pdmlab.service.trusted import DEVELOPER

if TYPE_CHECKING:
    from pdmlab.service.core import Core

_DEVELOPERS = Statement(
    sa.select(table.c.id, table.c.account_id, table.c.status).where(
        table.c.certificate_fingerprint == sa.bindparam("fingerprint"), table.c.device_execution_mode == DEVELOPER
    )
)
_UNKNOWN = ""
"""Why a chain is not believed whose CA nobody trusts: whoever refuses it has words for that."""


class Belief:
    """Which certificates open which of the two servers, and for which accounts."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._store = core.store

    def __repr__(self) -> str:
        return f"<Belief by {self._store!r}>"

    def judge(self, role: str) -> Callable[[Identity], str | None]:
        """Return what the server of a role asks in each handshake: None lets a client in, else it is why not."""

        def judged(identity: Identity) -> str | None:
            return self.fault(role, identity)

        return judged

    def fault(self, role: str, identity: Identity) -> str | None:
        """Return why nobody is let in with an identity; None if it is good; "" if nobody trusts its CA."""
        if identity.kind == "psk":
            return self._core.shared_keys.fault(identity.name)
        proof = proof_of(identity, self._core.pki.certificate)
        if proof.kind == "certificate":
            return None if proof.device_id is not None or proof.fault else self.developer_fault(proof.fingerprint)
        why: str | None = self._looked_up(role, identity.certificates)[1]
        return why

    def developer_fault(self, fingerprint: str) -> str | None:
        """Return why a developer certificate opens nothing; None if it does. fingerprint: SHA-256, in hex."""
        row = self._store.row(_DEVELOPERS, fingerprint=fingerprint)
        if row is None:
            return "the developer certificate was deleted"
        return None if row["status"] == "ACTIVE" else "the developer certificate is INACTIVE"

    def authorities(self, role: str, certificates: tuple[bytes, ...]) -> Rows:
        """Return the trusted certificates, of any accounts, that a client's chain (DER, its own first) leads to."""
        return self._looked_up(role, certificates)[0]

    def _looked_up(self, role: str, certificates: tuple[bytes, ...]) -> tuple[Rows, str | None]:
        """Return what a chain leads to, and why it does not."""
        if len(certificates) > MAX_CHAIN:
            return [], f"its chain has {len(certificates)} certificates: at most {MAX_CHAIN} are taken"
        try:
            chain = [x509.load_der_x509_certificate(each) for each in certificates]
            issuers = {key_of_name(each.issuer) for each in chain}
        except ValueError:
            return [], "its chain cannot be read"
        if any(is_weak(each) for each in chain):
            return [], "a signature of its chain is weak: SHA-256 or better is wanted"
        why = _UNKNOWN
        leading: Rows = []
        for row in self._candidates(role, issuers):
            if row["status"] != "ACTIVE":
                why = why or "its CA is INACTIVE"
                continue
            authority = _authority(row["certificate"], row["certificate_fingerprint"])
            fault = leads_to(certificates, authority, self._core.now())
            if fault is None:
                leading.append(row)
            else:
                why = fault or why or "it does not lead to the CA of that name which is trusted here"
        return leading, None if leading else why

    def _candidates(self, role: str, issuers: set[str]) -> Rows:
        rows: list[Row] = self._store.rows(
            sa.select(table)
            .where(
                table.c.subject_key.in_(sorted(issuers)),
                table.c.service == role,
                table.c.device_execution_mode != DEVELOPER,
            )
            .order_by(table.c.id)
        )
        return rows


@functools.lru_cache(maxsize=256)
def _authority(pem: str, fingerprint: str) -> bytes:
    """Return the CA (DER) of that fingerprint (SHA-256, hex) out of the chain that it was given with."""
    for certificate in x509.load_pem_x509_certificates(pem.encode()):
        if certificate.fingerprint(hashes.SHA256()).hex() == fingerprint:
            return certificate.public_bytes(serialization.Encoding.DER)
    raise ValueError(f"the chain has no certificate {fingerprint}")
