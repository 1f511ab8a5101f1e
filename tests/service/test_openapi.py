"""Whatever the API's description allows, and what it does not, is answered as the description says: never with a 5xx.

PDMLAB_TEST_EXAMPLES=200 asks more of each operation.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from pdmlab.service.rest import app
from pdmlab.service.rest.examples import examples
from tests.service.examplelab import ExampleLab, example_lab

EXAMPLES = int(os.environ.get("PDMLAB_TEST_EXAMPLES", "6"))
"""Asked of each operation on SQLite; on PostgreSQL, where only the database differs, half of them."""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
ENDS = ("DELETE /v3", "POST /v3/update-campaigns/{campaign_id}/stop", "POST /v3/update-campaigns/{campaign_id}/archive")
"""What makes things go away comes last."""


def _order(operation: str) -> tuple[bool, str]:
    return operation.startswith(ENDS), operation


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, shared_database: str) -> Iterator[ExampleLab]:
    """A service in which everything is there that the examples make, and whose polls are short."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "make_app", functools.partial(app.make_app, hold_s=0.01))
        with example_lab(tmp_path_factory.mktemp("openapi"), shared_database) as lab:
            with httpx.Client(timeout=30) as client:
                ask = lab.by_http(client)
                for example in examples().values():
                    if not _order(example.name)[0]:
                        lab.send(example, ask, patience=5)
            yield lab


@pytest.fixture(scope="module")
def schema(lab: ExampleLab) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_url(f"{lab.service.url}/openapi.json")


@pytest.fixture(scope="module")
def session(lab: ExampleLab) -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.mark.parametrize("operation", sorted(examples(), key=_order))
def test_what_is_sent_is_answered_as_described(
    lab: ExampleLab,
    schema: schemathesis.BaseSchema,
    session: requests.Session,
    operation: str,
    shared_database: str,
) -> None:
    wanted = EXAMPLES if shared_database.startswith("sqlite") else max(EXAMPLES // 2, 1)
    example = examples()[operation]
    asked = schema[example.path][example.method]
    names = [each.name for each in asked.path_parameters]
    ids = {name: lab.known.get(example.values.get(name, name).strip("{}"), example.values.get(name)) for name in names}
    there = {name: value for name, value in ids.items() if value is not None}
    cases = st.one_of(
        [
            asked.as_strategy(mode, path_parameters=given)
            for mode in GenerationMode
            for given in (None, there)
            if given != {}
        ]
    )

    @settings(
        max_examples=wanted, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(cases)
    def ask(case: schemathesis.Case) -> None:
        headers = {"Authorization": f"Bearer {lab.service.api_key}"}
        answer = case.call(base_url=lab.service.url, session=session, headers=headers, timeout=30)
        case.validate_response(answer, checks=CHECKS)

    ask()
    me = session.get(f"{lab.service.url}/v3/api-keys/me", headers={"Authorization": f"Bearer {lab.service.api_key}"})
    assert me.status_code == 200, me.text
