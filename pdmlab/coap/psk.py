"""Pre-shared keys in pyOpenSSL, which publishes no way to set them: the callbacks of OpenSSL 1.1 to 4, over cffi.

Tried with pyOpenSSL 25.0 and 26.4 (cryptography 44 and 50). Everything that is not their public API is in this file.
Callbacks live as long as their context, and nothing raised in one gets into C: the handshake is refused instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from OpenSSL import SSL
from OpenSSL._util import ffi, lib

# What C calls has to stay alive as long as the context, which every connection of it keeps.
_callbacks: WeakKeyDictionary[SSL.Context, Any] = WeakKeyDictionary()  # Any: cffi's function pointers have no type
_refused: WeakKeyDictionary[SSL.Connection, Refused] = WeakKeyDictionary()

_PSK_IDENTITY = 0xA8  # [8] EXPLICIT in OpenSSL's SSL_SESSION (ssl_asn1.c)


@dataclass(frozen=True, slots=True)
class Refused:
    """An identity that a server has no key for; `error` is what the look-up raised, if it did."""

    identity: bytes
    error: Exception | None = None


def offer(context: SSL.Context, identity: bytes, key: bytes) -> None:
    """Let a client's context prove itself by a key; identities end at their first NUL, as OpenSSL's do."""
    identity = identity.split(b"\0")[0]

    def psk(ssl: Any, hint: Any, identity_out: Any, max_identity: int, key_out: Any, max_key: int) -> int:
        # Lengths as OpenSSL counts them: max_identity leaves room for the NUL.
        if len(identity) > max_identity or len(key) > max_key:
            return 0
        ffi.memmove(identity_out, identity + b"\0", len(identity) + 1)
        ffi.memmove(key_out, key, len(key))
        return len(key)

    signature = "unsigned int(SSL *, const char *, char *, unsigned int, unsigned char *, unsigned int)"
    _callbacks[context] = ffi.callback(signature, psk, error=0)
    lib.SSL_CTX_set_psk_client_callback(context._context, _callbacks[context])


def accept(context: SSL.Context, key_of: Callable[[bytes], bytes | None]) -> None:
    """Let a server's context take clients whose identity `key_of` returns a key for."""

    def psk(ssl: Any, identity_in: Any, key_out: Any, max_key: int) -> int:
        identity = ffi.string(identity_in)
        key, problem = None, None
        try:
            key = key_of(identity)
        except Exception as error:  # must not get into C; who drives the handshake tells it
            problem = error
        if not key or len(key) > max_key:
            connection = SSL.Connection._reverse_mapping.get(ssl)
            if connection is not None:
                _refused[connection] = Refused(identity, problem)
            return 0
        ffi.memmove(key_out, key, len(key))
        return len(key)

    signature = "unsigned int(SSL *, const char *, unsigned char *, unsigned int)"
    _callbacks[context] = ffi.callback(signature, psk, error=0)
    lib.SSL_CTX_set_psk_server_callback(context._context, _callbacks[context])


def refused(connection: SSL.Connection) -> Refused | None:
    """Return the identity that a server's handshake was refused for; None if it was not."""
    return _refused.get(connection)


def identity_of(connection: SSL.Connection) -> bytes | None:
    """Return the identity that a handshake, or the one it resumes, was made with; None if with certificates."""
    return _identity_in(session_bytes(connection))


def session_bytes(connection: SSL.Connection) -> bytes:
    """Return the session of a connection as DER, secrets included; empty before there is one."""
    session = lib.SSL_get_session(connection._ssl)
    if session == ffi.NULL or (length := lib.i2d_SSL_SESSION(session, ffi.NULL)) <= 0:
        return b""
    out = ffi.new("unsigned char[]", length)
    lib.i2d_SSL_SESSION(session, ffi.new("unsigned char **", out))
    return bytes(ffi.buffer(out, length))


def resume(connection: SSL.Connection, session: bytes) -> bool:
    """Have a client offer a session of `session_bytes`; return whether it is one."""
    data = ffi.new("unsigned char[]", session)
    got = lib.d2i_SSL_SESSION(ffi.NULL, ffi.new("const unsigned char **", data), len(session))
    if got == ffi.NULL:
        lib.ERR_clear_error()
        return False
    done = lib.SSL_set_session(connection._ssl, got)  # takes a reference of its own
    lib.SSL_SESSION_free(got)
    return bool(done == 1)


def _identity_in(session: bytes) -> bytes | None:
    """Find the identity among the items of an SSL_SESSION."""
    if not session:
        return None
    at = _item(session, 0)[1]  # into the outer SEQUENCE
    while at < len(session):
        tag, start, end = _item(session, at)
        if tag == _PSK_IDENTITY:
            _, start, end = _item(session, start)
            return session[start:end]
        at = end
    return None


def _item(data: bytes, at: int) -> tuple[int, int, int]:
    """Return the tag of a DER item, and where its contents start and end."""
    length, start = data[at + 1], at + 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[at + 2 : start], "big")
    return data[at], start, start + length


def judge_by(connection: SSL.Connection, seconds: int) -> None:
    """Judge the peer's certificates by a time (s since 1970) from now on, in the handshakes of one connection."""
    # The time of a context's store, which pyOpenSSL can set, cannot be set a second time.
    lib.X509_VERIFY_PARAM_set_time(lib.SSL_get0_param(connection._ssl), seconds)
