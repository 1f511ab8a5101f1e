"""What an mbed_app.json says for a target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def setting(document: Mapping[str, Any], target: str, key: str) -> Any:  # JSON's values are of any type
    """Return a setting for a target, else for all ("*"); None if the file says nothing."""
    sections = document.get("target_overrides")
    if isinstance(sections, Mapping):
        for name in (target, "*"):
            part = sections.get(name)
            if isinstance(part, Mapping) and part.get(key) is not None:
                return part[key]
    return None
