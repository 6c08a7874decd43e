"""Asymmetric keys: generation, PEM and their JSON Web Key form (RFC 7517, RFC 7518 section 6)."""

import hashlib
from base64 import urlsafe_b64encode
from typing import Any

import orjson
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

_RSA_BITS = 2048
_P256_BYTES = 32


def generate_private_key(algorithm: str) -> bytes:
    """A new private key for ES256 or RS256 as PKCS #8 PEM."""
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    if algorithm == "ES256":
        key = ec.generate_private_key(ec.SECP256R1())
    else:
        key = rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_key_of(private_pem: bytes) -> bytes:
    """The public key of a private one as SubjectPublicKeyInfo PEM."""
    public = serialization.load_pem_private_key(private_pem, password=None).public_key()
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def thumbprint(public_pem: bytes) -> str:
    """The JWK SHA-256 thumbprint of a public key, RFC 7638; serves as `kid`."""
    members = _key_members(serialization.load_pem_public_key(public_pem))
    canonical = orjson.dumps(members, option=orjson.OPT_SORT_KEYS)
    return _base64url(hashlib.sha256(canonical).digest())


def to_jwk(kid: str, algorithm: str, public_pem: bytes) -> dict[str, Any]:
    """The public JWK of a verification key."""
    members = _key_members(serialization.load_pem_public_key(public_pem))
    return {"use": "sig", "kid": kid, "alg": algorithm, "key_ops": ["verify"], **members}


def _key_members(key: PublicKeyTypes) -> dict[str, str]:
    if isinstance(key, ec.EllipticCurvePublicKey):
        point = key.public_numbers()
        return {
            "kty": "EC",
            "crv": "P-256",
            "x": _base64url(point.x.to_bytes(_P256_BYTES, "big")),
            "y": _base64url(point.y.to_bytes(_P256_BYTES, "big")),
        }
    assert isinstance(key, rsa.RSAPublicKey)
    numbers = key.public_numbers()
    return {"kty": "RSA", "n": _unsigned(numbers.n), "e": _unsigned(numbers.e)}


def _unsigned(value: int) -> str:
    return _base64url(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def _base64url(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode()
