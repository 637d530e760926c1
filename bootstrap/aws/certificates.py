"""The certificate by which nodes of a cluster encrypt what they tell each other.

EMR takes it from the lake: a zip of PEM files, named as EMR names them. Nobody outside the cluster
sees it, so it is signed by itself. The stack's policies let nodes alone read it.

https://docs.aws.amazon.com/emr/latest/ManagementGuide/emr-encryption-enable.html
"""

from __future__ import annotations

import io
import zipfile
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from fruits.objects import storage_time, write_bytes
from fruits.stored import stored

OBJECT = "security/certificates.zip"
VALID = timedelta(days=3650)
RENEWED_AFTER = timedelta(days=365)


def make_certificates(region: str, now: datetime) -> bytes:
    """Return the zip with a new key and a certificate for the nodes of *region*."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    nodes = f"*.{region}.compute.internal"
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, nodes)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + VALID)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(nodes)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),  # EMR asks for none; the object itself is encrypted by KMS
    )
    public = certificate.public_bytes(serialization.Encoding.PEM)
    files = {
        "privateKey.pem": private,
        "certificateChain.pem": public,
        "trustedCertificates.pem": public,
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, content in files.items():
            archive.writestr(file, content)
    return buffer.getvalue()


def renew_certificates(lake: str, region: str) -> bool:
    """Put a certificate into *lake* (a URI) if there is none, or an old one; say whether it did."""
    uri, now = f"{lake}/{OBJECT}", storage_time(lake)
    found = next(stored(uri), None)
    if found and now - found.modified < RENEWED_AFTER:
        return False
    write_bytes(uri, make_certificates(region, now))
    return True
