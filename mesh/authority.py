"""The mesh's own certificate authority: it says which room is which when rooms talk over a network.

`<keys>/tls/ca.key` signs and is read by this command alone; each room gets `<name>.pem` and `<name>.key` (0600). A
certificate is made anew in the last month of its year, at the start of the mesh. Where rooms run on several
machines, each gets `ca.pem` and its own two files, never `ca.key`.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from chassis.clock import Clock, SystemClock
from chassis.whole import write_whole
from mesh.errors import PlaceUnsafe
from mesh.rooms import EDGE, ROOMS

_AUTHORITY, _ROOM = timedelta(days=3650), timedelta(days=365)
_RENEWED = timedelta(days=30)
_PEM = serialization.Encoding.PEM


def ensure(folder: Path, clock: Clock | None = None) -> None:
    """Make the authority and each certificate that is missing, unreadable or about to end. Raises PlaceUnsafe."""
    now = datetime.fromtimestamp((clock or SystemClock()).now_us() // 1_000_000, UTC)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = _made(folder, "ca", now) or _make_authority(folder, now)
    for name in (*ROOMS, EDGE):
        if _made(folder, name, now) is None or _signer_of(folder, name) != made.subject:
            _make(folder, name, now)


def _made(folder: Path, name: str, now: datetime) -> x509.Certificate | None:
    """A certificate that is there, with its key, and good for a while."""
    chain, key = folder / f"{name}.pem", folder / f"{name}.key"
    if not chain.exists() or not key.exists():
        return None
    if key.stat().st_mode & 0o077:
        raise PlaceUnsafe(f"{key} can be read by others.", f"chmod 600 {key}")
    try:
        found = x509.load_pem_x509_certificate(chain.read_bytes())
    except ValueError:
        return None
    return found if found.not_valid_after_utc - now > _RENEWED else None


def _signer_of(folder: Path, name: str) -> x509.Name:
    return x509.load_pem_x509_certificate((folder / f"{name}.pem").read_bytes()).issuer


def _make_authority(folder: Path, now: datetime) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _named(f"mesh authority {x509.random_serial_number():x}"[:64])
    builder = _begun(name, name, key.public_key(), now, _AUTHORITY)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = builder.add_extension(usage, critical=True).sign(key, hashes.SHA256())
    _write(folder, "ca", key, certificate)
    return certificate


def _make(folder: Path, name: str, now: datetime) -> None:
    authority = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    signer = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), password=None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _begun(_named(name), authority.subject, key.public_key(), now, _ROOM)
    for extension, critical in (
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (x509.SubjectAlternativeName([x509.DNSName(name)]), False),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), False),
    ):
        builder = builder.add_extension(extension, critical=critical)
    _write(folder, name, key, builder.sign(signer, hashes.SHA256()))


def _begun(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + life)
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _write(folder: Path, name: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    """The key first: a certificate without its key is made anew at the next start."""
    private = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    for path, data in (
        (folder / f"{name}.key", private),
        (folder / f"{name}.pem", certificate.public_bytes(_PEM)),
    ):
        write_whole(path, data)
