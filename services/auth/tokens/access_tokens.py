"""Access tokens: their claims (RFC 7519, RFC 9068) and the key that signs them."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from services.auth.directory.groups import Group
from services.auth.directory.users import User
from services.auth.sessions.login_sessions import LoginSession
from services.auth.tokens.signing_keys import SigningKeys
from services.shared import jwt
from services.shared.access_token import principal_of
from services.shared.principal import ADMINISTRATORS_GROUP_ID, SECURITY_REVIEWERS_GROUP_ID
from services.shared.settings import Settings
from services.shared.uuids import uuid4

LONGEST_GROUP_NAMES = 512
"""Characters that the names of groups may have in a token, all together."""


def issuer_of(settings: Settings) -> str:
    """`scheme://host[:port]` of the configured callback URL: `iss` and the only audience.

    Raises ValueError when the setting is no absolute http or https URL.
    """
    parts = urlsplit(settings.oauth_callback_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise ValueError(f"TMI_OAUTH_CALLBACK_URL must be an absolute http(s) URL, not {settings.oauth_callback_url!r}")
    return f"{parts.scheme}://{parts.netloc}"


def claims_of(
    user: User, session: LoginSession, groups: Sequence[Group], *, issuer: str, issued_at: int, lifetime: int
) -> dict[str, Any]:
    """The claims of a new token. Times are Unix seconds; it never outlives its session.

    `groups` holds names for display, and is left out when it is long: a token has to fit a cookie. The
    flags of roles are for clients, too. What decides is asked of this service for each session.
    """
    group_ids = {group.id for group in groups}
    names = list(dict.fromkeys([*session.provider_groups, *(group.name for group in groups)]))
    claims: dict[str, Any] = {
        "iss": issuer,
        "aud": [issuer],
        "sub": user.provider_id,
        "idp": user.provider,
        "email": user.email,
        "name": user.display_name,
        "tmi_user_id": user.id,
        "tmi_is_administrator": ADMINISTRATORS_GROUP_ID in group_ids,
        "tmi_is_security_reviewer": SECURITY_REVIEWERS_GROUP_ID in group_ids,
        "auth_time": int(session.auth_time.timestamp()),
        "sid": session.id,
        "jti": uuid4(),
        "iat": issued_at,
        "nbf": issued_at,
        "exp": min(issued_at + lifetime, int(session.expires_at.timestamp())),
    }
    if user.email_verified:
        claims["email_verified"] = True
    if names and sum(map(len, names)) <= LONGEST_GROUP_NAMES:
        claims["groups"] = names
    return claims


class AccessTokens:
    """Issues and checks the tokens of this installation."""

    def __init__(self, settings: Settings, keys: SigningKeys, now: Callable[[], datetime]) -> None:
        self._keys = keys
        self._now = now
        self._lifetime = settings.jwt_expiration_seconds
        self.issuer = issuer_of(settings)

    def issue(self, user: User, session: LoginSession, groups: Sequence[Group], now: datetime) -> tuple[str, int]:
        """A signed token and the seconds it is valid."""
        issued_at = int(now.timestamp())
        claims = claims_of(user, session, groups, issuer=self.issuer, issued_at=issued_at, lifetime=self._lifetime)
        key = self._keys.signer()
        token = jwt.sign(claims, kid=key.kid, algorithm=key.algorithm, key=key.signing_material)
        return token, claims["exp"] - issued_at

    def verify(self, token: str) -> Mapping[str, Any]:
        """The claims of a valid token that stands for somebody. Raises jwt.InvalidToken.

        Revocation is another matter.
        """
        claims = jwt.verify(
            token,
            self._keys.verification_keys(),
            issuer=self.issuer,
            audience=self.issuer,
            now=self._now().timestamp(),
        )
        principal_of(claims)
        return claims
