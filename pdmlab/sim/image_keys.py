"""Who signs the images that a programmer writes: the project, or a key of the board's own bench.

The project is that of the working folder (or of the setting `credentials`), else the service of this process: its
update key signs manifests, and images too. Where there is none, a board has a key of its own, kept beside its flash
for its owner alone; a board in memory forgets it with everything else.
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pdmlab.errors import BoardError, ConfigError
from pdmlab.sim.compiled_in import project
from pdmlab.sim.state import PRIVATE_FILE
from pdmlab.update.bootloaders.trial import key as trial_key

BENCH_KEY = "bench.key.pem"


class ImageKeys:
    """The keys that one board's programmer has; folder: where the bench's own is kept, None: in memory."""

    def __init__(self, folder: Path | None) -> None:
        self._file = folder and folder / BENCH_KEY
        self._bench: ec.EllipticCurvePrivateKey | None = None

    def __repr__(self) -> str:
        return f"<image keys, the bench's in {self._file.name if self._file else 'memory'}>"  # never the keys

    @property
    def present(self) -> ec.EllipticCurvePrivateKey:
        """The key that images are signed by now: the project's, else the bench's."""
        return self._project() or self._bench_key()

    def of(self, point: bytes) -> ec.EllipticCurvePrivateKey | None:
        """Return the key that a bootloader with this public key (65 B) asks for; None if it is not here."""
        wanted = trial_key.public_key(point).public_numbers()
        for key in (self._project(), self._bench_key()):
            if key is not None and key.public_key().public_numbers() == wanted:
                return key
        return None

    def _project(self) -> ec.EllipticCurvePrivateKey | None:
        found = project()
        try:
            return found.private_key if found is not None else None
        except ConfigError:
            return None  # built here, signed elsewhere

    def _bench_key(self) -> ec.EllipticCurvePrivateKey:
        if self._bench is None:
            self._bench = self._kept() if self._file is not None else ec.generate_private_key(ec.SECP256R1())
        return self._bench

    def _kept(self) -> ec.EllipticCurvePrivateKey:
        assert self._file is not None
        try:
            if not self._file.exists():
                _make(self._file)
            key = serialization.load_pem_private_key(self._file.read_bytes(), None)
        except (OSError, ValueError, TypeError) as error:
            raise BoardError(
                f"{self._file} cannot be read: {error}", hint="delete it: the bootloader then gets another key"
            ) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise BoardError(f"{self._file} is no elliptic-curve key", hint="delete it")
        return key


def _make(file: Path) -> None:
    """Make a key, readable by its owner alone from the first byte on."""
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    part = file.with_name(f".{file.name}")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE), "wb") as out:
        out.write(pem)
    part.replace(file)
