"""Proof Key for Code Exchange, RFC 7636. Only S256: `plain` would prove nothing to an observer."""

import hashlib
import hmac
import re
from base64 import urlsafe_b64encode

METHOD = "S256"

_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43,128}")
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")


def is_challenge(text: str) -> bool:
    """Whether the text may be a `code_challenge` (base64url without padding)."""
    return _CHALLENGE.fullmatch(text) is not None


def is_verifier(text: str) -> bool:
    """Whether the text has the form of a `code_verifier`, section 4.1."""
    return _VERIFIER.fullmatch(text) is not None


def challenge_of(verifier: str) -> str:
    """The S256 challenge of a verifier, section 4.2."""
    return urlsafe_b64encode(hashlib.sha256(verifier.encode("ascii")).digest()).rstrip(b"=").decode()


def proves(verifier: str, challenge: str) -> bool:
    """Whether the verifier belongs to the challenge, section 4.6. Constant time."""
    return hmac.compare_digest(challenge_of(verifier), challenge)
