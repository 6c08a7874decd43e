"""Secrets at rest: what is stored is encrypted with a key that the operator keeps outside of the database.

AES-256-GCM (NIST SP 800-38D) with a random nonce for each text. What the secret belongs to is authenticated with
it, so that a stored text is of no use in another place. Stored is `ENC:v1:<id of the key>:<base64 of nonce,
ciphertext and tag>`; text without that beginning was stored while there was no key.
"""

import hmac
import secrets
from base64 import b64decode, b64encode
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.shared.settings import Settings
from services.shared.startup import CannotStart

KEY = "TMI_SECRET_SETTINGS_ENCRYPTION_KEY"
PREVIOUS_KEY = "TMI_SECRET_SETTINGS_ENCRYPTION_PREVIOUS_KEY"
_KEY_BYTES = 32
_DISTINCT_BYTES = 16
"""Of 32 random bytes 30 differ on average: fewer than this are not random."""
_NONCE_BYTES = 12
_MARK = "ENC:v1:"


class UnreadableSecret(CannotStart):
    """A stored secret cannot be decrypted. The message says of what, and what to do."""


class Encryption:
    """Encrypts with the key there is now, and reads what that one or the one before it has encrypted."""

    def __init__(self, key: bytes | None, previous: bytes | None = None) -> None:
        """Keys of 32 bytes. Without any, secrets are stored as they are."""
        self._ciphers = {_id_of(each): AESGCM(each) for each in (key, previous) if each is not None}
        self._current = "" if key is None else _id_of(key)

    @classmethod
    def of(cls, settings: Settings) -> "Encryption":
        """As the operator set it. Raises CannotStart for keys that are none, and in production for none at all."""
        key = _key(KEY, settings.secret_settings_encryption_key, settings.secret_settings_encryption_key_file)
        previous = _key(
            PREVIOUS_KEY,
            settings.secret_settings_encryption_previous_key,
            settings.secret_settings_encryption_previous_key_file,
        )
        if key is None and settings.build_mode == "production":
            raise CannotStart(
                f"Production needs {KEY}, or {KEY}_FILE that names a file with it: 64 hexadecimal digits"
                " (openssl rand -hex 32), with which secrets in the database are encrypted."
            )
        if key is None and previous is not None:
            raise CannotStart(f"{PREVIOUS_KEY} is set, but not {KEY}.")
        return cls(key, previous)

    @property
    def has_key(self) -> bool:
        """Whether what is stored from now on is encrypted."""
        return bool(self._current)

    def encrypt(self, secret: str, *, owner: str) -> str:
        """What to store. owner: whose secret it is, unique among all that is stored."""
        if not self._current:
            return secret
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = nonce + self._ciphers[self._current].encrypt(nonce, secret.encode(), owner.encode())
        return f"{_MARK}{self._current}:{b64encode(sealed).decode()}"

    def decrypt(self, stored: str, *, owner: str) -> str:
        """The secret. Raises UnreadableSecret."""
        if not stored.startswith(_MARK):
            return stored
        key_id, _, sealed = stored.removeprefix(_MARK).partition(":")
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            missing = f"with another key than {KEY}" if self._current else f"and {KEY} is not set"
            raise UnreadableSecret(
                f"The secret of {owner} is encrypted {missing}: set the key that it was encrypted with,"
                f" as {PREVIOUS_KEY} if it was replaced."
            )
        try:
            data = b64decode(sealed, validate=True)
            return cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], owner.encode()).decode()
        except (InvalidTag, ValueError) as error:
            raise UnreadableSecret(f"The secret of {owner} was damaged in the database: restore it.") from error

    def is_current(self, stored: str) -> bool:
        """Whether it is stored as it would be now; otherwise it should be encrypted anew."""
        return stored.startswith(f"{_MARK}{self._current}:") if self._current else not stored.startswith(_MARK)


def _key(name: str, text: str, file: str) -> bytes | None:
    """The key that a setting holds or whose file it names. Never says what it holds."""
    if text and file:
        raise CannotStart(f"{name} and {name}_FILE are both set: set one of them.")
    if file:
        try:
            text = Path(file).read_text(encoding="ascii").strip()
        except (OSError, ValueError) as error:
            raise CannotStart(f"{name}_FILE cannot be read: {type(error).__name__}.") from error
    elif not text:
        return None
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES or len(set(key)) < _DISTINCT_BYTES:
        raise CannotStart(f"{name} must be 64 random hexadecimal digits: openssl rand -hex 32.")
    return key


def _id_of(key: bytes) -> str:
    """A name of the key that says nothing about it."""
    return hmac.digest(key, b"tmi encryption key id", "sha256").hex()[:16]
