"""Who signs which of a device's certificates: the service's own CA, those that an account has named for it.

A device may hold certificates beside the one that it registers with, such as customer.dlms for a meter. Elsewhere a CA
of a third party can sign them; here none is reached, and the service's own signs them all.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pdmlab.service.credentials import LWM2M
from pdmlab.service.refusal import Refused, not_found
from pdmlab.service.schema import certificate_issuer_configurations as table
from pdmlab.service.store import Row, Rows

if TYPE_CHECKING:
    from pdmlab.service.core import Core

MAX_CONFIGURATIONS = 1000
"""Names of certificates of an account."""
RESERVED = ("lwm2m", "bootstrap")
NAME = re.compile(r"(?!mbed\.)[\w.-]{1,50}", re.ASCII)
"""Names of certificates that can be configured."""


class Issuers:
    """The configurations of all accounts: names of certificates that the service's CA signs."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._store = core.store

    def __repr__(self) -> str:
        return f"<Issuers in {self._store!r}>"

    def signs(self, account_id: str, name: str) -> bool:
        """Whether a device of an account can have a certificate of that name signed."""
        if name == LWM2M:
            return True
        mine = table.c.account_id == account_id, table.c.reference == name
        return self._store.row(sa.select(table.c.id).where(*mine)) is not None

    def default(self, account_id: str) -> Row:
        """Return the row of the certificate that devices register with, which every account has."""
        account = self._core.accounts.account(account_id)
        return {
            "id": hashlib.sha256(f"{LWM2M}/{account_id}".encode()).hexdigest()[:32],
            "account_id": account_id,
            "reference": LWM2M,
            "created_at": account["created_at"],
            "updated_at": account["created_at"],
        }

    def list(self, account_id: str, reference: str | None = None) -> Rows:
        """Return an account's configurations, the default one first."""
        rows = self._store.rows(sa.select(table).where(table.c.account_id == account_id).order_by(table.c.id))
        found = [self.default(account_id), *rows]
        return [row for row in found if reference is None or row["reference"].lower() == reference.lower()]

    def get(self, account_id: str, id: str) -> Row:
        """Return a configuration.

        Raises:
            Refused: the account has none of that id (404).
        """
        default = self.default(account_id)
        mine = sa.select(table).where(table.c.account_id == account_id, table.c.id == id)
        row = default if id == default["id"] else self._store.row(mine)
        if row is None:
            raise not_found("certificate issuer configuration", id)
        return row

    def add(self, account_id: str, reference: str) -> Row:
        """Have devices renew certificates of a name from now on; return the row.

        Raises:
            Refused: the name is none, or reserved (400), or is configured already (409), or the account has
                MAX_CONFIGURATIONS (403).
        """
        if not NAME.fullmatch(reference) or reference.lower() in RESERVED:
            what = f"{reference[:60]!r} is no name of a certificate that can be configured"
            hint = "1 to 50 letters, digits and '._-'; LwM2M and BOOTSTRAP are reserved, and what begins with mbed."
            raise Refused(400, what, type="validation_error", hint=hint)
        count = sa.select(sa.func.count()).where(table.c.account_id == account_id)
        if self._store.scalar(count) >= MAX_CONFIGURATIONS:
            what = f"an account has at most {MAX_CONFIGURATIONS} of them"
            raise Refused(403, what, type="account_limit_exceeded")
        at = self._store.timestamp()
        row = {"id": self._store.ids.new(), "account_id": account_id, "reference": reference}
        row |= {"created_at": at, "updated_at": at}
        try:
            with self._store.begin() as db:
                db.execute(sa.insert(table).values(row))
        except sa.exc.IntegrityError as error:
            raise Refused(409, f"{reference} is configured already", type="duplicate") from error
        return row

    def touch(self, account_id: str, id: str) -> Row:
        """Set a configuration to the issuer that it has; return the row. Raises as `get`."""
        row = self.get(account_id, id)
        if row["reference"] != LWM2M:
            row["updated_at"] = self._store.timestamp()
            with self._store.begin() as db:
                db.execute(sa.update(table).where(table.c.id == id).values(updated_at=row["updated_at"]))
        return row

    def remove(self, account_id: str, id: str) -> None:
        """Have devices renew certificates of that name no more.

        Raises:
            Refused: it is the default (400), or as `get`.
        """
        if self.get(account_id, id)["reference"] == LWM2M:
            raise Refused(400, f"{LWM2M} cannot be deleted: devices register with it", type="validation_error")
        with self._store.begin() as db:
            db.execute(sa.delete(table).where(table.c.account_id == account_id, table.c.id == id))
