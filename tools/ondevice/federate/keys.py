"""Keys of a federation: a CA that signs one server certificate, and a key pair for every node."""

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ondevice.errors import UserError

VALID_DAYS = 825  # What common TLS implementations take at most.
LARGEST_NODES = 10000
LOCAL_HOSTS = ("localhost", "127.0.0.1")  # A node on the server's own computer.

CA_FILE = "ca.pem"
CERTIFICATE_FILE = "server.pem"
SERVER_KEY_FILE = "server-key.pem"
NODES_FOLDER = "nodes"
NODE_KEY_FILE = "node-key"


@dataclass(frozen=True)
class ServerKeys:
    """Files of the server.

    Attributes:
        ca: Certificate that nodes check the server's by.
        certificate, key: The server's own.
        nodes: Name -> line of its public key (OpenSSH); these nodes may join.
    """

    ca: Path
    certificate: Path
    key: Path
    nodes: dict[str, bytes]


@dataclass(frozen=True)
class NodeKeys:
    """Files of one node.

    Attributes:
        ca: Certificate that it checks the server's by.
        key: Its private key (OpenSSH), by which the server knows it.
    """

    ca: Path
    key: Path


def make_keys(folder: Path, hosts: Sequence[str], nodes: int) -> None:
    """Writes new keys: `server/`, and `node-1/` to `node-N/`.

    The CA's own private key is never written: nobody can make a second certificate with it.

    Args:
        folder: Is made; must be empty if it is there.
        hosts: Names and IP addresses by which nodes reach the server.
        nodes: How many key pairs.

    Raises:
        UserError: There is something in the folder, or a host is neither name nor address.
    """
    if not 1 <= nodes <= LARGEST_NODES:
        raise UserError(f"{nodes} nodes; allowed: 1 to {LARGEST_NODES}")
    names = _alternative_names([*hosts, *LOCAL_HOSTS])
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: holds something already; choose another folder for new keys")
    ca_key, server_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca = _ca_certificate(ca_key)
    certificate = _server_certificate(ca, ca_key, server_key, names, hosts[0])
    ca_pem = ca.public_bytes(Encoding.PEM)
    server = folder / "server"
    (server / NODES_FOLDER).mkdir(parents=True)
    _write_new(server / CA_FILE, ca_pem, 0o644)
    _write_new(server / CERTIFICATE_FILE, certificate.public_bytes(Encoding.PEM), 0o644)
    private = server_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _write_new(server / SERVER_KEY_FILE, private, 0o600)
    for number in range(1, nodes + 1):
        name = f"node-{number}"
        key = ec.generate_private_key(ec.SECP384R1())
        (folder / name).mkdir()
        private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        _write_new(folder / name / NODE_KEY_FILE, private, 0o600)
        _write_new(folder / name / CA_FILE, ca_pem, 0o644)
        _write_new(server / NODES_FOLDER / f"{name}.pub", public + b"\n", 0o644)


def load_server_keys(folder: Path) -> ServerKeys:
    """Finds the server's files, in `folder` or its `server/`.

    Raises:
        UserError: One is missing or no key, or others may read the private one.
    """
    if (folder / "server").is_dir():
        folder = folder / "server"
    for name in (CA_FILE, CERTIFICATE_FILE, SERVER_KEY_FILE):
        _check_file(folder / name, "server")
    _check_private(folder / SERVER_KEY_FILE)
    nodes = {
        path.stem: path.read_bytes().strip()
        for path in sorted(folder.glob(f"{NODES_FOLDER}/*.pub"))
    }
    if not nodes:
        raise UserError(f"{folder / NODES_FOLDER}: no public keys (*.pub) of nodes that may join")
    return ServerKeys(folder / CA_FILE, folder / CERTIFICATE_FILE, folder / SERVER_KEY_FILE, nodes)


def load_node_keys(folder: Path) -> NodeKeys:
    """Finds a node's files.

    Raises:
        UserError: One is missing, or others may read the private one.
    """
    for name in (CA_FILE, NODE_KEY_FILE):
        _check_file(folder / name, "node")
    _check_private(folder / NODE_KEY_FILE)
    return NodeKeys(folder / CA_FILE, folder / NODE_KEY_FILE)


def _check_file(path: Path, whose: str) -> None:
    if not path.is_file():
        raise UserError(
            f"{path}: no such file; --keys takes the {whose}'s folder as `ondevice federate keys` "
            "writes it"
        )


def _check_private(path: Path) -> None:
    mode = path.stat().st_mode
    if os.name == "posix" and mode & 0o077:
        raise UserError(
            f"{path}: its permissions {mode & 0o777:04o} let others read the key; "
            f"allowed: 0600; `chmod 600 {path}`"
        )


def _write_new(path: Path, content: bytes, mode: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(content)


def _alternative_names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys(hosts):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
            continue
        except ValueError:
            pass
        labels = host.split(".")
        if not all(
            label and label.isascii() and label.replace("-", "").isalnum() for label in labels
        ):
            raise UserError(
                f"host {host!r}: allowed: a name or an IP address without a port, as --host "
                "trainer.local or --host 192.168.1.20"
            )
        names.append(x509.DNSName(host))
    return names


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _begin(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # clocks of nodes differ
        .not_valid_after(now + timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(**used: bool) -> x509.KeyUsage:
    every = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: used.get(name, False) for name in every})


def _ca_certificate(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = _common_name("ondevice federation CA")
    builder = _begin(name, name, key.public_key())
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(key_cert_sign=True), critical=True)
    return builder.sign(key, hashes.SHA256())


def _server_certificate(
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePrivateKey,
    names: Sequence[x509.GeneralName],
    common_name: str,
) -> x509.Certificate:
    builder = _begin(_common_name(common_name), ca.subject, key.public_key())
    for extension, critical in (
        (x509.SubjectAlternativeName(names), False),
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_usage(digital_signature=True), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), False),
    ):
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(ca_key, hashes.SHA256())
