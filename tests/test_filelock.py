"""Locks of folders: one owner, who is named, and who gives it back by ending."""

import os
import subprocess
import sys

import pytest

from pdmlab.errors import PortBusy
from pdmlab.filelock import FileLock


def test_a_second_owner_is_told_who_the_first_is(tmp_path):
    lock = FileLock(tmp_path / "lock", "the desk")
    with pytest.raises(PortBusy, match=rf"^the desk is open in process {os.getpid()}\nhint: take another"):
        FileLock(tmp_path / "lock", "the desk", hint="take another")
    lock.close()
    FileLock(tmp_path / "lock", "the desk").close()


def test_closing_twice_does_not_take_the_lock_from_its_next_owner(tmp_path):
    first = FileLock(tmp_path / "lock", "the desk")
    first.close()
    second = FileLock(tmp_path / "lock", "the desk")
    first.close()
    with pytest.raises(PortBusy):
        FileLock(tmp_path / "lock", "the desk")
    second.close()


def test_a_killed_owner_holds_nothing(tmp_path):
    program = (
        "import sys, pathlib; from pdmlab.filelock import FileLock\n"
        "lock = FileLock(pathlib.Path(sys.argv[1]), 'the desk'); print('held', flush=True); sys.stdin.read()"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with owner:
        assert owner.stdout.readline() == b"held\n"
        with pytest.raises(PortBusy, match=f"process {owner.pid}"):
            FileLock(tmp_path / "lock", "the desk")
        owner.kill()
        owner.wait()
    FileLock(tmp_path / "lock", "the desk").close()
