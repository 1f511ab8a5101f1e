"""A port that cannot be is refused before anything is started."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from pdmlab.cli import main


@pytest.mark.parametrize(
    "arguments",
    [
        ("service", "--port", "99999"),
        ("service", "--port=-1"),
        ("service", "--coap-port", "70000"),
        ("service", "--bootstrap-port", "70000"),
        ("board", "--tcp", "--port", "70000"),
    ],
)
def test_a_port_is_a_number_up_to_65535(arguments: tuple[str, ...]) -> None:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2 and "is not in the range 0<=x<=65535" in done.output
