"""Pre-shared keys through pyOpenSSL's foreign functions, over TLS and DTLS in memory."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL

from pdmlab.coap import psk

KEY = b"0123456789abcdef"
KEYS = {b"device": KEY, b"long" * 32: bytes(64)}
METHODS = pytest.mark.parametrize("method", [SSL.TLS_METHOD, SSL.DTLS_METHOD], ids=["TLS", "DTLS"])


def context(method: int = SSL.DTLS_METHOD) -> SSL.Context:
    new = SSL.Context(method)
    new.set_max_proto_version(0x0303 if method == SSL.TLS_METHOD else 0xFEFD)
    new.set_cipher_list(b"PSK-AES128-CCM8:@SECLEVEL=0")
    new.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_QUERY_MTU)
    new.set_session_id(b"test")
    new.set_session_cache_mode(SSL.SESS_CACHE_SERVER)
    return new


def server_context(key_of: Callable[[bytes], bytes | None] = KEYS.get, method: int = SSL.DTLS_METHOD) -> SSL.Context:
    new = context(method)
    psk.accept(new, key_of)
    return new


def ends(
    server: SSL.Context, identity: bytes = b"device", key: bytes = KEY, *, method: int = SSL.DTLS_METHOD
) -> tuple[SSL.Connection, SSL.Connection]:
    """Return a server's and a client's end."""
    client = context(method)
    psk.offer(client, identity, key)
    both = SSL.Connection(server), SSL.Connection(client)
    both[0].set_accept_state()
    both[1].set_connect_state()
    if method == SSL.DTLS_METHOD:
        for end in both:
            end.set_ciphertext_mtu(1200)
    return both


def shake(server: SSL.Connection, client: SSL.Connection) -> dict[str, str]:
    """Let both shake hands; return what went wrong with either."""
    errors: dict[str, str] = {}
    for _ in range(4):
        for name, end, other in (("client", client, server), ("server", server, client)):
            if name in errors:
                continue
            try:
                end.do_handshake()
            except SSL.WantReadError:
                pass
            except SSL.Error as error:
                errors[name] = error.args[0][0][2]
            try:
                other.bio_write(end.bio_read(1 << 16))
            except SSL.Error:
                pass
    return errors


@METHODS
def test_a_client_proves_itself_by_its_key(method: int) -> None:
    server, client = ends(server_context(method=method), method=method)
    assert psk.session_bytes(client) == b""
    assert psk.identity_of(server) is None
    assert shake(server, client) == {}
    assert psk.identity_of(server) == psk.identity_of(client) == b"device"
    assert server.master_key() == client.master_key()
    assert psk.refused(server) is None


def test_long_keys_and_identities_go_through() -> None:
    server, client = ends(server_context(), b"long" * 32, bytes(64))
    assert shake(server, client) == {}
    assert psk.identity_of(server) == b"long" * 32


@METHODS
def test_an_unknown_identity_is_refused_and_named(method: int) -> None:
    server, client = ends(server_context(method=method), b"nobody", method=method)
    assert shake(server, client) == {"server": "psk identity not found", "client": "tlsv1 alert unknown psk identity"}
    assert psk.refused(server) == psk.Refused(b"nobody")
    assert psk.refused(client) is None


def test_another_key_does_not_fit() -> None:
    server, client = ends(server_context(method=SSL.TLS_METHOD), key=b"x" * 16, method=SSL.TLS_METHOD)
    assert "server" in shake(server, client)  # what OpenSSL calls it differs by its version
    assert psk.refused(server) is None
    assert server.master_key() != client.master_key()


@pytest.mark.parametrize("key", [b"", None, bytes(2000)], ids=["empty", "none", "too long"])
def test_a_key_that_is_of_no_use_is_as_none(key: bytes | None) -> None:
    server, client = ends(server_context(lambda identity: key))
    assert shake(server, client)["server"] == "psk identity not found"
    assert psk.refused(server) == psk.Refused(b"device")


def test_what_a_look_up_raises_does_not_get_into_c(capfd: pytest.CaptureFixture[str]) -> None:
    def broken(identity: bytes) -> bytes:
        raise LookupError(identity)

    server, client = ends(server_context(broken))
    assert shake(server, client)["server"] == "psk identity not found"
    refused = psk.refused(server)
    assert refused is not None
    assert refused.identity == b"device"
    assert isinstance(refused.error, LookupError)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("identity", "key"), [(b"i" * 2000, KEY), (b"device", bytes(2000))], ids=["identity", "key"])
def test_a_client_whose_identity_or_key_openssl_cannot_hold_fails_cleanly(identity: bytes, key: bytes) -> None:
    server, client = ends(server_context(), identity, key)
    assert shake(server, client)["client"] == "psk identity not found"


@METHODS
def test_a_session_is_written_and_resumed_with_its_identity(method: int) -> None:
    context = server_context(method=method)
    server, client = ends(context, method=method)
    assert shake(server, client) == {}
    session = psk.session_bytes(client)
    for end in (server, client):
        end.set_shutdown(SSL.SENT_SHUTDOWN)
    # The second server asks for no key: it has the session, and the identity in it.
    again, client = ends(context, key=b"forgotten meanwhile", method=method)
    assert psk.resume(client, session)
    assert shake(again, client) == {}
    assert psk.identity_of(again) == b"device"
    assert again.master_key() == server.master_key()


SERVER = server_context()


@given(st.binary(max_size=200))
def test_bytes_that_are_no_session_are_not_resumed(data: bytes) -> None:
    _, client = ends(SERVER)
    assert not psk.resume(client, data)


def test_callbacks_live_as_long_as_their_context_and_no_longer() -> None:
    def key_of(identity: bytes) -> bytes | None:
        return KEYS.get(identity)

    server, client = ends(server_context(key_of))
    gc.collect()  # nothing but the connections holds the contexts
    assert shake(server, client) == {}
    gone = weakref.ref(key_of)
    del server, client, key_of
    gc.collect()
    assert gone() is None


def test_secrets_are_in_no_repr() -> None:
    server, client = ends(server_context())
    shake(server, client)
    assert KEY.decode() not in repr(server) + repr(client) + repr(psk.refused(server)) + repr(psk._callbacks)
