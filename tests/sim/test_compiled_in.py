"""What a board has compiled in: where it comes from, and what is said where that may surprise."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from pdmlab.service import Service
from pdmlab.sim.compiled_in import compiled_in
from pdmlab.update.credentials import CREDENTIALS_FILE, Credentials


def test_credentials_for_another_service_than_this_processs_are_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    there = Credentials("desk", "coap://127.0.0.1:9?aid=1")
    with Service(database=f"sqlite:///{tmp_path}/lab.sqlite") as service, warnings.catch_warnings():
        own = service.credentials()
        (tmp_path / CREDENTIALS_FILE).write_text(own.to_c())
        assert compiled_in("K64F").credentials == own
        (tmp_path / CREDENTIALS_FILE).write_text(service.credentials(secure=False).to_c())
        compiled_in("K64F")
        (tmp_path / CREDENTIALS_FILE).write_text(there.to_c())
        assert compiled_in("K64F", own).credentials == own
        with pytest.warns(UserWarning, match=r"go to coap://127\.0\.0\.1:9, as mbed_cloud_dev_cred.* at coaps://"):
            assert compiled_in("K64F").credentials == there
        assert compiled_in("K64F").credentials == there
        monkeypatch.setenv("PDMLAB_CREDENTIALS", str(tmp_path / CREDENTIALS_FILE))
        assert compiled_in("K64F").credentials == there
    compiled_in("K64F")
