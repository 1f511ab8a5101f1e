"""What a device under update keeps over a reset, in memory."""

from __future__ import annotations


class KeptInMemory:
    """UpdateStore and Versions, as the update client asks for them: a manifest, its payload's key, and versions."""

    def __init__(self) -> None:
        self.manifest: bytes | None = None
        self.key: bytes | None = None
        self.versions: dict[str, int] = {}

    def load(self) -> bytes | None:
        return self.manifest

    def save(self, manifest: bytes) -> None:
        self.manifest = manifest

    def clear(self) -> None:
        self.manifest = None

    def load_key(self) -> bytes | None:
        return self.key

    def save_key(self, key: bytes) -> None:
        self.key = key

    def clear_key(self) -> None:
        self.key = None

    def component_version(self, name: str) -> int | None:
        return self.versions.get(name)

    def remember_component_version(self, name: str, number: int) -> None:
        self.versions[name] = number
