"""A Hub behind TLS: reached with its certificate, refused without."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bucketfs.client import Channel, Credentials, Endpoint, HubClient
from bucketfs.errors import Exists, Unavailable
from bucketfs.hub import HubConfig, HubServer


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for ``localhost`` and its key, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"


async def test_tls(tmp_path: Path) -> None:
    """A Hub over TLS is reached by clients that trust its certificate, and by none in clear text."""
    cert, key = self_signed(tmp_path)
    config = HubConfig(data=tmp_path / "hub", listen="127.0.0.1:0", tls_cert=cert, tls_key=key, auto_confirm=True)
    with HubServer(config) as server:
        port = server.address.rpartition(":")[2]
        endpoint = Endpoint.parse(f"https://localhost:{port}")
        async with Channel(endpoint, Credentials, root_certificates=cert.read_bytes()) as channel:
            await HubClient(channel).signup("alice", "alice@example.org")
            with pytest.raises(Exists):
                await HubClient(channel).signup("alice", "other@example.org")
        for stranger in (endpoint, Endpoint.parse(f"http://localhost:{port}")):
            async with Channel(stranger, Credentials, 5.0) as channel:
                with pytest.raises(Unavailable):
                    await HubClient(channel).signin("alice")
