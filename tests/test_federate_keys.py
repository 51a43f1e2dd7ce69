"""Keys of a federation, checked by OpenSSL (through `ssl`) and read as the formats say."""

import ipaddress
import socket
import ssl
import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from ondevice.errors import UserError
from ondevice.federate.keys import load_node_keys, load_server_keys, make_keys

HOSTS = ("trainer.local", "192.0.2.7", "2001:db8::7")
NODES = 3


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("federation") / "keys"
    make_keys(folder, HOSTS, NODES)
    return folder


def handshake(server: Path, ca: Path, host: str) -> str:
    """A TLS connection over a pair of sockets; the version that both agreed on."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(server / "server.pem", server / "server-key.pem")
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    theirs.settimeout(10)

    def accept() -> None:
        try:
            with serving.wrap_socket(theirs, server_side=True) as accepted:
                accepted.recv(1)
        except OSError:
            theirs.close()

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        context = ssl.create_default_context(cafile=str(ca))
        with context.wrap_socket(ours, server_hostname=host) as connection:
            return str(connection.version())
    finally:
        ours.close()
        thread.join(10)


@pytest.mark.parametrize("host", [*HOSTS, "localhost", "127.0.0.1"])
def test_a_client_with_the_ca_accepts_the_server_by_each_of_its_names(
    keys: Path, host: str
) -> None:
    assert handshake(keys / "server", keys / "node-1" / "ca.pem", host) == "TLSv1.3"


def test_a_client_refuses_the_server_by_another_name_and_by_another_ca(
    keys: Path, tmp_path: Path
) -> None:
    make_keys(tmp_path / "other", HOSTS, 1)
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        handshake(keys / "server", keys / "node-1" / "ca.pem", "other.local")
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed"):
        handshake(keys / "server", tmp_path / "other" / "node-1" / "ca.pem", HOSTS[0])


def test_the_certificate_says_what_it_is_for_and_for_how_long(keys: Path) -> None:
    ca, certificate = (
        x509.load_pem_x509_certificate((keys / "server" / name).read_bytes())
        for name in ("ca.pem", "server.pem")
    )
    certificate.verify_directly_issued_by(ca)
    now = datetime.now(UTC)
    for one in (ca, certificate):
        assert one.not_valid_before_utc < now
        assert timedelta(days=820) < one.not_valid_after_utc - now <= timedelta(days=825)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["trainer.local", "localhost"]
    assert names.get_values_for_type(x509.IPAddress) == [
        ipaddress.ip_address(host) for host in (*HOSTS[1:], "127.0.0.1")
    ]
    basic = x509.BasicConstraints
    assert ca.extensions.get_extension_for_class(basic).value.ca
    assert not certificate.extensions.get_extension_for_class(basic).value.ca


def test_every_node_has_a_key_of_its_own_whose_public_half_the_server_knows(keys: Path) -> None:
    known = load_server_keys(keys).nodes
    assert list(known) == ["node-1", "node-2", "node-3"]
    for name, line in known.items():
        key = load_ssh_private_key(load_node_keys(keys / name).key.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        assert key.curve.name == "secp384r1"  # of NIST's, as Flower demands
        assert key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) == line
    assert len(set(known.values())) == NODES


def test_private_files_are_for_their_owner_and_no_ca_key_is_left(keys: Path) -> None:
    private = []
    ca = x509.load_pem_x509_certificate((keys / "server" / "ca.pem").read_bytes())
    for path in keys.rglob("*"):
        if path.is_file() and b"PRIVATE KEY" in path.read_bytes():
            private.append(path.relative_to(keys).as_posix())
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(private) == [
        "node-1/node-key",
        "node-2/node-key",
        "node-3/node-key",
        "server/server-key.pem",
    ]
    server_key = load_pem_private_key((keys / "server" / "server-key.pem").read_bytes(), None)
    assert server_key.public_key() != ca.public_key()


def test_keys_are_never_overwritten(keys: Path) -> None:
    before = {path: path.read_bytes() for path in keys.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="holds something already"):
        make_keys(keys, HOSTS, NODES)
    assert {path: path.read_bytes() for path in keys.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("host", ["trainer.local:9092", "", "a b", "-", "two..dots"])
def test_what_is_no_host_is_refused_before_anything_is_written(host: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a name or an IP address"):
        make_keys(tmp_path / "keys", [host], 1)
    assert not (tmp_path / "keys").exists()


def test_keys_that_others_may_read_are_refused(tmp_path: Path) -> None:
    make_keys(tmp_path / "keys", ["localhost"], 1)
    for path in ("server/server-key.pem", "node-1/node-key"):
        (tmp_path / "keys" / path).chmod(0o640)
    with pytest.raises(UserError, match="0640"):
        load_server_keys(tmp_path / "keys" / "server")
    with pytest.raises(UserError, match="chmod 600"):
        load_node_keys(tmp_path / "keys" / "node-1")


def test_the_command_says_what_goes_where_and_refuses_to_run_twice(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ondevice", "federate", "keys", str(tmp_path / "k")]
    command += ["--host", "localhost", "--nodes", "2"]
    first, second = (
        subprocess.run(command, capture_output=True, text=True, timeout=60) for _ in range(2)
    )
    assert first.returncode == 0
    assert "server: to the server" in first.stdout
    assert "node-1 ... node-2: one to each node" in first.stdout
    assert second.returncode == 1
    assert second.stderr.count("\n") == 1
    assert "another folder" in second.stderr
