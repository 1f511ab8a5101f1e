"""A DTLS client on Mbed TLS, the library of stock boards, for an interpreter that has python-mbedtls.

It says hello to 127.0.0.1:PORT, hello again from another port in mid-session, and prints what comes back.
usage: mbed_tls_client.py PORT [IDENTITY KEY | CA CERTIFICATE KEY-FILE]
"""

from __future__ import annotations

import socket
import sys

from mbedtls import pk, tls, x509


def configuration(arguments: list[str]) -> tls.DTLSConfiguration:
    """Return what the stock client allows: DTLS 1.2 and one cipher suite."""
    if len(arguments) == 2:
        identity, key = arguments
        return tls.DTLSConfiguration(
            pre_shared_key=(identity, key.encode()),
            ciphers=("TLS-PSK-WITH-AES-128-CCM-8",),
            validate_certificates=False,
            lowest_supported_version=tls.DTLSVersion.DTLSv1_2,
        )
    ca, own, key = arguments
    with open(key) as file:
        private = pk.ECC.from_PEM(file.read())
    return tls.DTLSConfiguration(
        trust_store=tls.TrustStore([x509.CRT.from_file(ca)]),
        certificate_chain=([x509.CRT.from_file(own)], private),
        ciphers=("TLS-ECDHE-ECDSA-WITH-AES-128-CCM-8",),
        validate_certificates=True,
        lowest_supported_version=tls.DTLSVersion.DTLSv1_2,
    )


def udp(port: int) -> socket.socket:
    """Return a socket on a port of its own."""
    new = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    new.settimeout(60)
    new.connect(("127.0.0.1", port))
    return new


def main(port: int, arguments: list[str]) -> None:
    """Shake hands and talk."""
    session = tls.ClientContext(configuration(arguments)).wrap_socket(udp(port), server_hostname=None)
    session.connect(("127.0.0.1", port))
    while True:
        try:
            session.do_handshake()
            break
        except (tls.WantReadError, tls.WantWriteError, tls.HelloVerifyRequest):
            pass
    print(session.cipher())
    session.send(b"hello")
    print(session.recv(100).decode())
    moved = udp(port)
    session._socket.close()
    session._socket = moved
    session.send(b"hello again")
    print(session.recv(100).decode())


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
