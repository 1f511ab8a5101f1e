"""A factory whose CA and boards are made by the program openssl: nothing of pdmlab signs anything here."""

from __future__ import annotations

import subprocess
from pathlib import Path

import sqlalchemy as sa
from aiocoap import Message
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from pdmlab.coap.security import Security
from pdmlab.service.schema import bootstrap_endpoints
from tests.service.reallab import Carrier, RealDevice, RealLab
from tests.tools import program

_STATES = sa.select(bootstrap_endpoints.c.state)
_CA = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n"
_LEAF = "basicConstraints=CA:FALSE\nkeyUsage=critical,digitalSignature\nauthorityKeyIdentifier=keyid\n"


class Works:
    """A root, and a CA below it that signs the boards; `subject` is the root's."""

    def __init__(self, folder: Path, subject: str = "/O=Works/CN=Works root", *, key: str = "EC:prime256v1") -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._program = program("openssl")
        self._key("root", key)
        self.request("root", subject)
        (folder / "root.ext").write_text(_CA)
        self.openssl("x509", "-req", "-in", "root.csr", "-signkey", "root.key", *self._signed("root", 3650))
        self.authority("line", f"{subject} line", "root")

    def authority(self, name: str, subject: str, by: str, extensions: str = _CA) -> str:
        """Make a CA of that name below another one; return its certificate (PEM)."""
        self._key(name)
        self.request(name, subject)
        return self.sign(name, by, extensions)

    def request(self, name: str, subject: str) -> None:
        self.openssl("req", "-new", "-key", f"{name}.key", "-subj", subject, "-out", f"{name}.csr")

    def sign(self, name: str, by: str, extensions: str = _LEAF, days: int = 365) -> str:
        """Sign a request; return the certificate (PEM)."""
        (self.folder / f"{name}.ext").write_text(extensions)
        issuer = ("-CA", f"{by}.pem", "-CAkey", f"{by}.key", "-set_serial", f"0x{abs(hash((name, by))) + 1:x}")
        self.openssl("x509", "-req", "-in", f"{name}.csr", *issuer, *self._signed(name, days))
        return self.pem(name)

    def pem(self, *names: str) -> str:
        return "".join((self.folder / f"{name}.pem").read_text() for name in names)

    def der(self, name: str) -> bytes:
        certificate = x509.load_pem_x509_certificate((self.folder / f"{name}.pem").read_bytes())
        return certificate.public_bytes(serialization.Encoding.DER)

    def key(self, name: str) -> bytes:
        key = serialization.load_pem_private_key((self.folder / f"{name}.key").read_bytes(), None)
        return key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def leaf(self, name: str, *, by: str = "line", more: str = "", days: int = 365) -> tuple[bytes, bytes]:
        """Make a board's certificate, unless it is there, and its key (DER)."""
        if not (self.folder / f"{name}.key").exists():
            self._key(name)
            self.request(name, f"{more}/CN={name}")
            self.sign(name, by, days=days)
        return self.der(name), self.key(name)

    def board(
        self, lab: RealLab, carrier: Carrier, name: str, *, by: str = "line", more: str = "", days: int = 365
    ) -> Board:
        """Make a board whose certificate has the CN `name`, with those that lead to the root, but not the root."""
        board = Board(lab, name, carrier, *self.leaf(name, by=by, more=more, days=days))
        board.above = () if by == "root" else (self.der(by),)
        lab.devices.append(board)
        return board

    def _key(self, name: str, kind: str = "EC:prime256v1") -> None:
        algorithm, _, value = kind.partition(":")
        option = "ec_paramgen_curve" if algorithm == "EC" else "rsa_keygen_bits"
        self.openssl("genpkey", "-algorithm", algorithm, "-pkeyopt", f"{option}:{value}", "-out", f"{name}.key")

    def _signed(self, name: str, days: int) -> tuple[str, ...]:
        return ("-sha256", "-days", str(days), "-extfile", f"{name}.ext", "-out", f"{name}.pem")

    def openssl(self, *arguments: str) -> str:
        """Run openssl in the folder; return what it printed."""
        done = subprocess.run([self._program, *arguments], cwd=self.folder, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
        return done.stdout


class Board(RealDevice):
    """A board with a certificate of its factory; `account_id` is whose it says that it is, "" for nobody's."""

    account_id: str | None = None

    @property
    def aid(self) -> tuple[str, ...]:
        account_id = self.lab.core.account_id if self.account_id is None else self.account_id
        return (f"aid={account_id}",) if account_id else ()

    def trusts(self, role: str) -> Security:
        if role == "lwm2m" and self.own:
            return super().trusts(role)
        chain = (self.built_with, *self.above)
        return Security(chain, self.built_with_key, trust=(self.lab.core.pki.certificate,))

    async def connect(
        self, role: str, certificate: bytes | None = None, *, psk: str = "", security: Security | None = None
    ) -> None:
        await self.close()  # it has one connection at a time
        self.port = 0
        await super().connect(role, certificate, psk=psk, security=security)

    async def first_boot(self, *query: str) -> Message:
        await self.power_on()
        await self.connect("bootstrap")
        answer = await self.bootstrap(*(query or (f"ep={self.name}", *self.aid, "mccv=4.13.2")))
        if answer.code < 128:
            rows = self.lab.core.store.rows
            await self.lab.until(lambda: all(row["state"] == "finished" for row in rows(_STATES)))
        await self.disconnect("bootstrap")
        return answer


class KeyedBoard(Board):
    """A board with a pre-shared key: that of its name, until it is told one."""

    @property
    def id(self) -> str:
        return self.location[2]

    def trusts(self, role: str) -> Security:
        if role == "lwm2m":
            return Security(psk=(self.security[3], self.security[5]))
        key = self.lab.core.shared_keys.of(self.name.encode())
        assert key is not None
        return Security(psk=(self.name.encode(), key))
