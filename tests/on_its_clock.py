"""Tests that are coroutines, run on the loop of their virtual clock."""

from __future__ import annotations

import inspect

import pytest


def run_coroutine(item: pytest.Function) -> bool | None:
    """Run a test that is a coroutine on its fixture `clock`; leave any other to pytest."""
    if not inspect.iscoroutinefunction(item.obj):
        return None
    arguments = {name: item.funcargs[name] for name in item._fixtureinfo.argnames}
    item._request.getfixturevalue("clock").call_async(item.obj(**arguments))
    return True
