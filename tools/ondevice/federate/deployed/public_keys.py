"""A node's public key as Flower knows nodes by it."""

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from ondevice.errors import UserError


def public_key_bytes(name: str, line: bytes) -> bytes:
    """The key of an OpenSSH line.

    Args:
        name: Of the node, for messages.
        line: As in an authorized_keys file.

    Raises:
        UserError: It is none of an elliptic curve.
    """
    try:
        key = load_ssh_public_key(line)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UserError(f"{name}.pub: no OpenSSH public key: {error}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise UserError(
            f"{name}.pub: a key of another kind; allowed: elliptic curves, as of "
            "`ssh-keygen -t ecdsa -b 384`"
        )
    return bytes(public_key_to_bytes(key))
