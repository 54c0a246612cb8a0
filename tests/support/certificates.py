"""A throw-away certificate authority for clusters that speak TLS."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path
from typing import Dict, Tuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.ports import LOOPBACK, NODE_ADDRESS

_ONE_DAY = datetime.timedelta(days=1)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _start(subject: str, issuer: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _ONE_DAY)
        .not_valid_after(now + _ONE_DAY)
    )


def _authority() -> Tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _start("test authority", "test authority", key)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return key, builder.sign(key, hashes.SHA256())


def make_tls_environment(folder: Path) -> Dict[str, str]:
    """Writes a fresh authority and one certificate for this machine into ``folder``.

    Returns:
        The environment variables that make Ray speak TLS with them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    authority_key, authority = _authority()
    key = ec.generate_private_key(ec.SECP256R1())
    addresses = (LOOPBACK, NODE_ADDRESS)
    names = x509.SubjectAlternativeName(
        [
            x509.DNSName("localhost"),
            *(x509.IPAddress(ipaddress.ip_address(address)) for address in addresses),
        ]
    )
    certificate = (
        _start("test node", "test authority", key)
        .add_extension(names, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    written = {
        "RAY_TLS_SERVER_CERT": certificate.public_bytes(serialization.Encoding.PEM),
        "RAY_TLS_SERVER_KEY": _pem(key),
        "RAY_TLS_CA_CERT": authority.public_bytes(serialization.Encoding.PEM),
    }
    environment = {"RAY_USE_TLS": "1"}
    for variable, data in written.items():
        path = folder / f"{variable.lower()}.pem"
        path.write_bytes(data)
        environment[variable] = str(path)
    return environment
