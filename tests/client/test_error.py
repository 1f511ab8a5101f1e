"""Every number of the client has a name, a meaning and an advice."""

from __future__ import annotations

import itertools
import tomllib
from importlib.resources import files

import pytest

from pdmlab.client import Error
from pdmlab.client.backoff import rebootstrapping, reconnection
from pdmlab.client.error import error_of, error_of_update
from pdmlab.client.server_uri import ServerUri, names_account
from pdmlab.codes import explain
from pdmlab.errors import (
    BootstrapFailed,
    ConfigError,
    HandshakeFailed,
    NetworkError,
    PdmlabError,
    RegistrationFailed,
    ResponseError,
    StorageError,
    TimedOut,
)
from pdmlab.network.nsapi import NsapiError, nsapi_error
from pdmlab.update.results import FotaResult


def test_the_table_has_each_error_and_no_other() -> None:
    table = tomllib.loads(files("pdmlab.client").joinpath("codes.toml").read_text(encoding="utf-8"))
    assert {name: row["code"] for name, row in table.items()} == {str(each): int(each) for each in Error}
    assert all(row["means"] and row["do"] for row in table.values())


def test_a_number_and_a_name_from_the_console_are_explained() -> None:
    assert explain("MbedCloudClient::ConnectSecureConnectionFailed").code == "11"
    assert explain(1025).name == "MbedCloudClient::UpdateWarningCertificateNotFound"
    assert explain(1037, "client").name == "MbedCloudClient::UpdateWarningUnknown"
    assert explain(5, "client").family == "client"


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (TimedOut("x"), Error.ConnectTimeout),
        (HandshakeFailed("x", reason="unknown CA"), Error.ConnectSecureConnectionFailed),
        (nsapi_error(NsapiError.DNS_FAILURE, "x"), Error.ConnectDnsResolvingFailed),
        (NetworkError("x"), Error.ConnectNetworkError),
        (BootstrapFailed("x"), Error.ConnectBootstrapFailed),
        (ResponseError("x", code="4.03 Forbidden", path="/rd"), Error.ConnectInvalidParameters),
        (ResponseError("x", code="5.00 Internal Server Error", path="/rd"), Error.ConnectUnknownError),
        (RegistrationFailed("x"), Error.ConnectUnknownError),
        (StorageError("x"), Error.ConnectorFailedToStoreCredentials),
        (ConfigError("x"), Error.ConnectorInvalidCredentials),
    ],
)
def test_what_breaks_a_connection_has_a_number(error: PdmlabError, number: Error) -> None:
    assert error_of(error) is number


def test_each_result_of_an_update_has_a_number() -> None:
    assert all(1024 <= error_of_update(result) <= 1057 for result in FotaResult)
    assert error_of_update(FotaResult.DELTA) is Error.UpdateWarningUnknown


def test_server_uris_are_read_with_their_queries() -> None:
    uri = ServerUri.parse("coap://[::1]:5683?aid=a&iep=b")
    assert (uri.host, uri.port, uri.queries) == ("::1", 5683, ("aid=a", "iep=b"))
    assert (uri.query("iep"), uri.query("ep")) == ("b", None)
    assert ServerUri.parse("coap://cloud:1") == ServerUri("cloud", 1)
    for bad in ("", "cloud:1", "coap://cloud", "coap://:1", "coap://cloud:0", "coap://cloud:65536", "http://cloud:1"):
        with pytest.raises(ConfigError, match="no server URI"):
            ServerUri.parse(bad)
    assert ServerUri.parse("coaps://cloud:5684?aid=a").secure and not uri.secure
    assert names_account("coaps://cloud:1?aid=a") and names_account("coap://cloud:1?x=y&aid=a")
    assert not names_account("coaps://cloud:1?said=a")


def test_delays_double_up_to_their_longest() -> None:
    from random import Random

    again = reconnection(Random(1))
    delays = [again.next() for _ in range(15)]
    assert 11.7 <= delays[0] <= 14.3
    assert all(1.7 < b / a < 2.3 for a, b in itertools.pairwise(delays[:9]))
    assert delays[-1] == 4 * 3600
    again.reset()
    assert again.next() < 15
    boot = rebootstrapping(Random(1))
    assert 20 <= boot.next() <= 100
    assert max(boot.next() for _ in range(20)) == 6 * 3600
