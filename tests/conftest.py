"""Every test on ground of its own: none sees the settings, boards, databases or runs of whoever starts the tests."""

from __future__ import annotations

import gc
import itertools
import os
import signal

import hypothesis  # noqa: F401  # its plugin would load it at the end, when CPython 3.11 miscounts after greenlets
import pytest

_numbers = itertools.count()

# Where a script in the background runs the tests, Ctrl-C is ignored from the start; here, and in what tests start,
# it has to mean what it means to a person.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _no_settings_of_yours(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith("PDMLAB_") or name == "CLOUD_SDK_API_KEY":
                patch.delenv(name)
        for name in ("STATE", "DATA"):  # for fixtures of a module or a session
            patch.setenv(f"PDMLAB_{name}", str(tmp_path_factory.getbasetemp() / name.lower()))
        yield


@pytest.fixture(autouse=True)
def _folders_of_its_own(tmp_path_factory, monkeypatch):
    """Folders are named here and made by those who use them."""
    number = next(_numbers)
    for name in ("STATE", "DATA"):
        monkeypatch.setenv(f"PDMLAB_{name}", str(tmp_path_factory.getbasetemp() / f"{name.lower()}-{number}"))


def pytest_collection_finish() -> None:
    """Leave what all tests share out of the garbage collector's rounds: they took a tenth of a run."""
    gc.collect()
    gc.freeze()
