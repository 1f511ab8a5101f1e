"""Whose a device is that comes with a certificate of its factory: of which account, and which of its devices."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa
from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.service.directory import PRODUCTION
from pdmlab.service.enrollment import colons
from pdmlab.service.proof import Proof
from pdmlab.service.registering import answer
from pdmlab.service.schema import devices
from pdmlab.service.store import Row

if TYPE_CHECKING:
    from pdmlab.service.core import Core

_ACCOUNT_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Claim:
    """An account that a device belongs to, by which trusted certificate, and by which enrollment, if by one."""

    account_id: str
    trusted: Row
    enrollment: Row | None = None


class Factory:
    """Decides for both servers; all is read from the database, and holds as it is now."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._store = core.store

    def claim(self, role: str, name: str, asked: str | None, proof: Proof) -> Claim | Message:
        """Return whose a device is, or what to answer; asked: the account that it says (`aid`), None for none.

        It is an account's that trusts its CA; where that is in enrollment mode, only the one's that has enrolled it.
        """
        if proof.fault:
            return answer(codes.FORBIDDEN, f"the certificate names nobody: {proof.fault}")
        if name != proof.endpoint_name:
            return answer(codes.BAD_REQUEST, f"ep={name} is not the name in the certificate")
        leading = self._core.belief.authorities(role, proof.certificates)
        if not leading:
            return answer(codes.FORBIDDEN, "the CA of the certificate is not trusted here any more")
        claims = self._claims(leading, proof)
        unit = proof.unit if proof.unit is not None and _ACCOUNT_ID.fullmatch(proof.unit) else None
        if unit is not None and asked not in (None, unit):
            return answer(codes.FORBIDDEN, f"aid={(asked or '')[:64]} is not the account of the certificate")
        account_id = asked or unit
        if account_id is not None:
            if account_id in claims:
                return claims[account_id]
        elif len(claims) == 1:
            return next(iter(claims.values()))
        elif claims:
            return answer(codes.BAD_REQUEST, "several accounts trust the CA of the certificate: aid= must say which")
        closed = [row for row in leading if row["enrollment_mode"] and account_id in (None, row["account_id"])]
        if closed:
            self._core.enrollments.denied(name, closed, "it is not enrolled")
            return answer(codes.FORBIDDEN, "the device is not enrolled")
        return answer(codes.FORBIDDEN, f"the account {(account_id or '')[:64]} does not trust the certificate's CA")

    def _claims(self, leading: list[Row], proof: Proof) -> dict[str, Claim]:
        claims = {row["account_id"]: Claim(row["account_id"], row) for row in leading if not row["enrollment_mode"]}
        closed = {row["account_id"]: row for row in leading if row["enrollment_mode"]}
        enrollment = self._core.enrollments.of(proof.fingerprint) if closed else None
        if enrollment is not None and enrollment["account_id"] in closed:
            account_id = enrollment["account_id"]
            claims.setdefault(account_id, Claim(account_id, closed[account_id], enrollment))
        return claims

    def known(self, account_id: str, proof: Proof) -> Row | None:
        """Return the device of an account that has come with this certificate, or is said to: by its device_key."""
        digest = colons(proof.fingerprint)
        keys = [digest, digest.lower(), proof.fingerprint]
        mine = devices.c.account_id == account_id, devices.c.device_key.in_(keys)
        return self._store.row(sa.select(devices).where(*mine).order_by(devices.c.id).limit(1))

    def device(self, claim: Claim, proof: Proof, state: str) -> Row | Message:
        """Return the device that a claim is about, made if need be in that state, or what to answer."""
        directory, enrollment = self._core.directory, claim.enrollment
        found = None
        if enrollment is not None and enrollment["enrolled_device_id"] is not None:
            found = directory.find(enrollment["enrolled_device_id"], claim.account_id)
        found = found or self.known(claim.account_id, proof)
        made = found is None
        if found is None:
            full = directory.full(claim.account_id)
            if full is not None:
                return answer(codes.SERVICE_UNAVAILABLE, full)
            shown = {"endpoint_name": proof.endpoint_name, "state": state, **shown_of(claim.trusted, proof)}
            found = directory.add(claim.account_id, **shown)
        if enrollment is not None and enrollment["enrolled_device_id"] is None:
            taken = self._core.enrollments.claimed(enrollment, found["id"])
            if taken != found["id"]:  # by another process, at the same moment
                if made:
                    directory.remove(claim.account_id, found["id"])
                return directory.find(taken, claim.account_id) or found
        return found


def shown_of(trusted: Row, proof: Proof) -> Row:
    """Return what the directory shows of a device's certificate and its CA."""
    return {
        "device_key": colons(proof.fingerprint),
        "ca_id": trusted["id"],
        "issuer_fingerprint": trusted["certificate_fingerprint"],
        "device_execution_mode": PRODUCTION,
    }
