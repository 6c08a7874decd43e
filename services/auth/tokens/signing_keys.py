"""The keys that sign access tokens, and their rotation with overlap.

A rotation publishes the new key at once and signs with it only after PUBLISH_AHEAD, when every
verifier that honours the key set's max-age has seen it. The key before it stays published until
the last token it can have signed has expired. Of each algorithm one key is the newest
(`retired_at` is NULL); a partial unique index keeps two rotations at once from making two.

Private keys are encrypted with the operator's key (`services.shared.encryption`). Only a development
build may do without one: there, whoever can read the database's `auth` schema can sign.
"""

import hashlib
import hmac
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, or_, select, update

from services.auth.tokens import jwks
from services.auth.tokens.tables import signing_keys
from services.shared import sql_dialect
from services.shared.database import Database
from services.shared.encryption import KEY, Encryption
from services.shared.jwt import CLOCK_SKEW_SECONDS, VerificationKey
from services.shared.settings import Settings
from services.shared.startup import CannotStart

logger = logging.getLogger(__name__)

JWKS_MAX_AGE_SECONDS = 3600
PUBLISH_AHEAD = timedelta(seconds=JWKS_MAX_AGE_SECONDS)
_CACHE = timedelta(seconds=30)


class RotationRefused(CannotStart):
    """The keys cannot be rotated by this service; the message says what to do instead."""


@dataclass(frozen=True)
class SigningKey:
    """A key that signs or has signed. HS256 has the same secret on both sides."""

    kid: str
    algorithm: str
    signing_material: str
    verification_material: bytes
    active_from: datetime | None


class SigningKeys:
    """The keys in the database, or the configured secret for HS256."""

    def __init__(self, database: Database, settings: Settings, now: Callable[[], datetime]) -> None:
        """Raises CannotStart when keys could not be stored safely."""
        self._database = database
        self._encryption = Encryption.of(settings)
        self._algorithm = settings.jwt_signing_method
        self._secret = settings.jwt_secret
        self._overlap = PUBLISH_AHEAD + timedelta(seconds=settings.jwt_expiration_seconds + CLOCK_SKEW_SECONDS)
        self._now = now
        self._cached: tuple[datetime, list[SigningKey]] | None = None

    def ensure(self) -> None:
        """Makes the first key of the configured algorithm; keys of another algorithm retire.

        Keys that were stored without encryption, or with the key before this one, are encrypted anew. Raises
        UnreadableSecret when one cannot be read.
        """
        if not self._encryption.has_key:
            logger.warning("signing keys are stored unencrypted", extra={"missing": KEY})

        def work(connection: Connection) -> None:
            now = self._now()
            self._encrypt_anew(connection)
            connection.execute(
                update(signing_keys)
                .where(signing_keys.c.retired_at.is_(None), signing_keys.c.algorithm != self._algorithm)
                .values(retired_at=now + self._overlap)
            )
            if self._algorithm == "HS256":
                return
            newest = select(signing_keys.c.kid).where(
                signing_keys.c.retired_at.is_(None), signing_keys.c.algorithm == self._algorithm
            )
            if connection.scalar(newest) is None:
                self._add(connection, active_from=now)

        self._database.write(work)
        self._cached = None

    def rotate(self) -> datetime:
        """Publishes a new key and returns when it starts to sign. Raises RotationRefused for HS256."""
        if self._algorithm == "HS256":
            raise RotationRefused("HS256 has no key pair to rotate: change TMI_JWT_SECRET instead.")

        def work(connection: Connection) -> datetime:
            now = self._now()
            connection.execute(
                update(signing_keys)
                .where(signing_keys.c.retired_at.is_(None), signing_keys.c.algorithm == self._algorithm)
                .values(retired_at=now + self._overlap)
            )
            self._add(connection, active_from=now + PUBLISH_AHEAD)
            return now + PUBLISH_AHEAD

        active_from = self._database.write(work)
        self._cached = None
        return active_from

    def published(self) -> list[SigningKey]:
        """Every key that may have signed a valid token, the one that signs now first. One SELECT."""
        keys = self._read()
        signer = self._signer_among(keys)
        return [signer, *(key for key in keys if key is not signer)]

    def signer(self) -> SigningKey:
        """The key to sign with now."""
        return self._signer_among(self._recent())

    def verification_keys(self) -> dict[str, VerificationKey]:
        """The published keys by `kid`, for checking a token."""
        return {
            key.kid: VerificationKey.load(key.kid, key.algorithm, key.verification_material) for key in self._recent()
        }

    def _recent(self) -> list[SigningKey]:
        cached = self._cached
        if cached is None or self._now() - cached[0] > _CACHE:
            return self._read()
        return cached[1]

    def _read(self) -> list[SigningKey]:
        keys = self._database.read(self._load)
        self._cached = (self._now(), keys)
        return keys

    def _signer_among(self, keys: list[SigningKey]) -> SigningKey:
        usable = [key for key in keys if key.algorithm == self._algorithm]
        now = self._now()
        active = [key for key in usable if key.active_from is None or key.active_from <= now]
        # `keys` is oldest first. None is active when the clock of the replica that made the first
        # key runs ahead of this one.
        return active[-1] if active else usable[0]

    def _load(self, connection: Connection) -> list[SigningKey]:
        rows = connection.execute(
            select(signing_keys)
            .where(or_(signing_keys.c.retired_at.is_(None), signing_keys.c.retired_at > self._now()))
            .order_by(signing_keys.c.active_from, signing_keys.c.kid)
        )
        keys = [
            SigningKey(row.kid, row.algorithm, private_key, jwks.public_key_of(private_key.encode()), row.active_from)
            for row in rows
            for private_key in [self._encryption.decrypt(row.private_key, owner=_owner(row.kid))]
        ]
        if self._algorithm == "HS256":
            keys.append(_shared_secret(self._secret))
        return keys

    def _encrypt_anew(self, connection: Connection) -> None:
        for kid, stored in connection.execute(select(signing_keys.c.kid, signing_keys.c.private_key)).all():
            private_key = self._encryption.decrypt(stored, owner=_owner(kid))
            if not self._encryption.is_current(stored):
                connection.execute(
                    update(signing_keys)
                    .where(signing_keys.c.kid == kid)
                    .values(private_key=self._encryption.encrypt(private_key, owner=_owner(kid)))
                )

    def _add(self, connection: Connection, active_from: datetime) -> None:
        private_key = jwks.generate_private_key(self._algorithm)
        kid = jwks.thumbprint(jwks.public_key_of(private_key))
        connection.execute(
            sql_dialect.insert(connection, signing_keys)
            .values(
                kid=kid,
                algorithm=self._algorithm,
                private_key=self._encryption.encrypt(private_key.decode(), owner=_owner(kid)),
                created_at=self._now(),
                active_from=active_from,
            )
            .on_conflict_do_nothing()
        )


def _owner(kid: str) -> str:
    return f"signing key {kid}"


def _shared_secret(secret: str) -> SigningKey:
    kid = hmac.new(secret.encode(), b"tmi access token key id", hashlib.sha256).hexdigest()[:32]
    return SigningKey(kid, "HS256", secret, secret.encode(), None)
