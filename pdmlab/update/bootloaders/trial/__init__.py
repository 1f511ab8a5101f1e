"""The third bootloader: signed images only, the old one kept, each new one on trial until it is confirmed."""

from __future__ import annotations

from pdmlab.update.bootloaders.trial.bootloader import TrialBootloader

__all__ = ["TrialBootloader"]
