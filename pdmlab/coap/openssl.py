"""OpenSSL contexts from a `Security`: TLS 1.2 and DTLS 1.2 as the stock client wants them, by pyOpenSSL.

One certificate chain, P-256 with SHA-256, no tickets (the stock client resumes by session id), the time in each
ServerHello (it sets its clock by it), and renegotiation that the client may begin (it does so at its first boot).
"""

from __future__ import annotations

from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.serialization import Encoding, load_der_private_key
from OpenSSL import SSL
from OpenSSL._util import lib
from OpenSSL.crypto import X509, X509StoreFlags

from pdmlab.coap import judging, psk
from pdmlab.coap.handshake import DTLS_1_2, TLS_1_2, Handshake
from pdmlab.coap.security import HandshakeStep, PeerTime, Security
from pdmlab.coap.transport import Identity
from pdmlab.errors import ConfigError, HandshakeFailed

# The stock client offers the first and nothing else; its LWM2M_COMPLIANT build, and others, the rest.
CERTIFICATE_SUITES = (
    "ECDHE-ECDSA-AES128-CCM8",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-CCM",
)
PSK_SUITES = ("PSK-AES128-CCM8", "PSK-AES128-GCM-SHA256", "PSK-AES128-CCM", "PSK-AES256-CCM8", "PSK-AES128-CBC-SHA256")

# pyOpenSSL passes these through, but gives them no name.
_NO_AUTO_CHAIN = 0x8  # SSL_MODE: send the given chain and no root; a device has 4 KB for all of it
_RELEASE_BUFFERS = 0x10  # SSL_MODE: an idle connection holds no record buffers
_SEND_SERVERHELLO_TIME = 0x40  # SSL_MODE
_ALLOW_CLIENT_RENEGOTIATION = 0x100  # SSL_OP

_NOT_YET_VALID, _HAS_EXPIRED = 9, 10  # X509_V_ERR_CERT_

MOST_CERTIFICATES = 8
"""Certificates of a peer's chain that are kept: a client may send a hundred."""
SESSION_LIFETIME = 24 * 3600
"""How long a session may be resumed (s)."""
_SESSION_CONTEXT = b"pdmlab"


def server_context(security: Security, method: int = SSL.TLS_METHOD) -> SSL.Context:
    """Return a context for the server's side of connections; method is SSL.TLS_METHOD or SSL.DTLS_METHOD.

    With certificates, the peer must send one of a CA in `trust`, or one that `judges` believes. Sessions are kept in
    the context.

    Raises:
        ConfigError: a certificate or key cannot be read, or they do not belong together.
    """
    context = _context(security, method)
    context.set_mode(_SEND_SERVERHELLO_TIME)
    context.set_options(_ALLOW_CLIENT_RENEGOTIATION)
    context.set_session_id(_SESSION_CONTEXT)
    context.set_session_cache_mode(SSL.SESS_CACHE_SERVER)
    context.set_timeout(SESSION_LIFETIME)
    if security.certificates and security.judges is not None:
        judging.let_judge(context, security.judges)
    if security.psk_of is not None:
        psk.accept(context, security.psk_of)
    return context


def client_context(security: Security, method: int = SSL.TLS_METHOD, now: float | None = None) -> SSL.Context:
    """Return a context for one client; `now` (s since 1970) judges certificates, else the real time.

    Raises:
        ConfigError: a certificate or key cannot be read, or they do not belong together.
    """
    context = _context(security, method)
    context.set_session_cache_mode(SSL.SESS_CACHE_SERVER)
    if now is not None:
        store = context.get_cert_store()
        assert store is not None
        store.set_time(datetime.fromtimestamp(now, UTC))
    if security.psk is not None:
        psk.offer(context, *security.psk)
    return context


def forgiven(clock: PeerTime | None) -> frozenset[int]:
    """Return the faults of a certificate that a client's first handshake passes over: its clock may be to blame."""
    if clock is None:
        return frozenset()
    return frozenset((_NOT_YET_VALID, _HAS_EXPIRED) if clock.trusted else (_NOT_YET_VALID,))


def told_time(connection: SSL.Connection) -> int:
    """Return the first four bytes of the server's random, which are its time if it is such a server (s since 1970)."""
    return int.from_bytes((connection.server_random() or b"")[:4], "big")


def settle(connection: SSL.Connection, seen: Handshake, clock: PeerTime) -> bool:
    """Take the time of the server after a handshake over TLS; return whether to shake hands again, judging by it."""
    told = told_time(connection)
    if seen.forgave:
        seen.forgave, seen.forgiven = False, frozenset()
        psk.judge_by(connection, told)
        connection.renegotiate()
        return True
    clock.told(told)
    return False


def _context(security: Security, method: int) -> SSL.Context:
    context = SSL.Context(method)
    version = TLS_1_2 if method == SSL.TLS_METHOD else DTLS_1_2
    context.set_min_proto_version(version)
    context.set_max_proto_version(version)
    context.set_mode(_RELEASE_BUFFERS | _NO_AUTO_CHAIN)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION)
    suites: tuple[str, ...] = ()
    if security.certificates:
        suites += CERTIFICATE_SUITES
        _load(context, security)
    if security.psk is not None or security.psk_of is not None:
        suites += PSK_SUITES
    # CCM with a tag of 8 bytes is below security level 1, which counts 64 bits of it.
    context.set_cipher_list(f"{':'.join(suites)}:@SECLEVEL=0".encode())
    context.set_tmp_ecdh(SECP256R1())  # the only group
    context.set_info_callback(_note)
    if (keylog := security.keylog) is not None:
        context.set_keylog_callback(lambda _, line: keylog(line.decode()))
    return context


def _load(context: SSL.Context, security: Security) -> None:
    assert security.private_key is not None
    try:
        own, *chain = [x509.load_der_x509_certificate(each) for each in security.certificates]
        context.use_certificate(own)
        for each in chain:
            context.add_extra_chain_cert(each)
        context.use_privatekey(load_der_private_key(security.private_key, None))  # type: ignore[arg-type]  # or refused
        context.check_privatekey()
        store = context.get_cert_store()
        assert store is not None
        store.set_flags(X509StoreFlags.PARTIAL_CHAIN)  # LwM2M's /0/x/4 may be the server's certificate itself
        for ca in security.trust:
            store.add_cert(X509.from_cryptography(x509.load_der_x509_certificate(ca)))
    except (ValueError, TypeError, SSL.Error) as error:
        raise ConfigError(
            f"a certificate or its key cannot be used: {error}",
            hint="DER; the key is PKCS#8 or SEC1, unencrypted, and belongs to the first certificate",
        ) from error
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _verify)


def _verify(connection: SSL.Connection, certificate: X509, error: int, depth: int, ok: int) -> bool:
    if not ok:
        seen: Handshake = connection.get_app_data()
        if seen.forgives(error):
            return True
        seen.not_verified(error, depth, certificate.to_cryptography())
    return bool(ok)


def _note(connection: SSL.Connection, where: int, value: int) -> None:
    seen: Handshake | None = connection.get_app_data()
    if seen is not None:
        seen.note(where, value)


def connection(context: SSL.Context, seen: Handshake) -> SSL.Connection:
    """Return a connection over memory whose handshakes `seen` follows."""
    new = SSL.Connection(context)
    new.set_app_data(seen)
    if seen.server:
        new.set_accept_state()
    else:
        new.set_connect_state()
    return new


def identity_of(connection: SSL.Connection) -> Identity | None:
    """Return who the peer has proved to be, now or in the session that was resumed; None if it has not."""
    leaf = connection.get_peer_certificate(as_cryptography=True)
    if leaf is None:
        identity = psk.identity_of(connection)
        return None if identity is None else Identity("psk", identity.decode(errors="backslashreplace"))
    # A client's chain has the peer's own certificate, a server's has not (SSL_get_peer_cert_chain(3)).
    chain = connection.get_peer_cert_chain(as_cryptography=True) or ()
    names = leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    own = leaf.public_bytes(Encoding.DER)
    above = tuple(der for each in chain if (der := each.public_bytes(Encoding.DER)) != own)
    return Identity("certificate", str(names[0].value) if names else "", (own, *above)[:MOST_CERTIFICATES])


def completed(connection: SSL.Connection) -> HandshakeStep:
    """Return how a handshake that is complete ended, for those who hear of them."""
    return HandshakeStep("completed", connection.get_cipher_name() or "", resumed(connection), identity_of(connection))


def resumed(connection: SSL.Connection) -> bool:
    """Return whether the handshake was an abbreviated one."""
    return bool(lib.SSL_session_reused(connection._ssl))


def failure(connection: SSL.Connection, error: Exception, peer: str) -> HandshakeFailed:
    """Return why a handshake of `connection` ended with an error of OpenSSL's."""
    seen: Handshake = connection.get_app_data()
    refused = psk.refused(connection)
    return seen.failed(error, peer, identity=None if refused is None else refused.identity)
