"""Client certificates that somebody judges beside OpenSSL: its verify callback, over cffi.

pyOpenSSL's own tells one certificate at a time, and cannot say which alert a client is to get. What OpenSSL checks it
checks still: signatures within the chain, dates, who may sign; only that a chain leads to no CA in its store is not
its to decide. Everything that is not pyOpenSSL's public API is in this file, as in psk.py.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from weakref import WeakKeyDictionary

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from OpenSSL._util import ffi, lib
from OpenSSL.crypto import X509, X509Store, X509StoreContext, X509StoreContextError, X509StoreFlags

from pdmlab.coap.handshake import Handshake
from pdmlab.coap.transport import Identity

Judge = Callable[[Identity], str | None]

# What C calls has to stay alive as long as the context, which every connection of it keeps.
_callbacks: WeakKeyDictionary[SSL.Context, Any] = WeakKeyDictionary()  # Any: cffi's function pointers have no type

_UNROOTED = (2, 18, 19, 20, 21)  # X509_V_ERR_: the chain ends before a CA that is in the store
_FORGED = 7  # X509_V_ERR_CERT_SIGNATURE_FAILURE
_REVOKED = 23  # X509_V_ERR_CERT_REVOKED: the client is told certificate_revoked


def let_judge(context: SSL.Context, judge: Judge) -> None:
    """Have a server's context ask about each chain that is sound; `judge` returns None to believe it, or why not."""

    def verify(ok: int, store: Any) -> int:
        connection = SSL.Connection._reverse_mapping.get(
            lib.X509_STORE_CTX_get_ex_data(store, lib.SSL_get_ex_data_X509_STORE_CTX_idx())
        )
        if connection is None:
            return 0
        seen: Handshake = connection.get_app_data()
        error, depth = lib.X509_STORE_CTX_get_error(store), lib.X509_STORE_CTX_get_error_depth(store)
        try:
            if not ok and error not in _UNROOTED:
                seen.not_verified(error, depth, _current(store))
                return 0
            if not seen.judged and (not ok or depth == 0):
                chain = _chain(store)
                why = judge(identity_of(chain))
                if why is not None:
                    # By the certificate that OpenSSL stumbled over, or by the client's own.
                    seen.not_verified(error if not ok else _REVOKED, depth, chain[min(depth, len(chain) - 1)], why)
                    lib.X509_STORE_CTX_set_error(store, error if not ok else _REVOKED)
                    return 0
                seen.judged = True
            lib.X509_STORE_CTX_set_error(store, 0)
        except Exception as problem:  # must not get into C; who drives the handshake tells it
            seen.problem = problem
            return 0
        return 1

    _callbacks[context] = ffi.callback("int (*)(int, X509_STORE_CTX *)", verify, error=0)
    lib.SSL_CTX_set_verify(context._context, SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _callbacks[context])


def identity_of(chain: list[x509.Certificate]) -> Identity:
    """Return whom a chain names, its own certificate first."""
    names = chain[0].subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    ders = tuple(each.public_bytes(Encoding.DER) for each in chain)
    return Identity("certificate", str(names[0].value) if names else "", ders)


def leads_to(certificates: tuple[bytes, ...], authority: bytes, now: float) -> str | None:
    """Return why a chain (DER, the client's own first) does not lead to a CA at a time (Unix s); None if it does.

    "" where it is not signed by that CA; else what is wrong with a certificate of it.
    """
    try:
        own, *above = [X509.from_cryptography(x509.load_der_x509_certificate(each)) for each in certificates]
        store = X509Store()
        store.set_flags(X509StoreFlags.PARTIAL_CHAIN)  # the CA that is believed need be no root
        store.set_time(datetime.fromtimestamp(now, UTC).replace(tzinfo=None))
        store.add_cert(X509.from_cryptography(x509.load_der_x509_certificate(authority)))
        X509StoreContext(store, own, above).verify_certificate()
    except X509StoreContextError as error:
        return "" if error.errors[0] in (_FORGED, *_UNROOTED) else str(error)
    except (ValueError, TypeError, SSL.Error) as error:
        return str(error) or "it cannot be read"
    return None


def _chain(store: Any) -> list[x509.Certificate]:
    stack = lib.X509_STORE_CTX_get1_chain(store)
    found = [X509._from_raw_x509_ptr(lib.sk_X509_value(stack, i)) for i in range(lib.sk_X509_num(stack))]
    lib.sk_X509_free(stack)  # not its members, which the objects let go
    return [each.to_cryptography() for each in found]


def _current(store: Any) -> x509.Certificate:
    raw = lib.X509_STORE_CTX_get_current_cert(store)
    lib.X509_up_ref(raw)
    return X509._from_raw_x509_ptr(raw).to_cryptography()
