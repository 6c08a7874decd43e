"""The claims of an access token and the principal they stand for.

`sub` keeps the provider's user id and (`idp`, `sub`) identifies the user to clients; the internal id
travels in `tmi_user_id`. Groups and roles are not read from the token, which has to fit a cookie and
would be out of date: the gateway asks the auth service for those of the session.
"""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from services.shared.jwt import InvalidToken
from tmi.principal.v1.principal_pb2 import Principal

REVOCATIONS_CHANNEL = "tmi:revocations"
"""Redis channel on which the auth service publishes serialized tmi.auth.v1.Revocation messages."""

SERVICE_ACCOUNT_PREFIX = "sa:"


def principal_of(claims: Mapping[str, Any]) -> Principal:
    """The principal of verified claims, without groups and roles.

    Raises InvalidToken when a claim is missing, has a wrong type or is no UUID where it has to be.
    """
    try:
        return Principal(
            user_id=_canonical(claims["tmi_user_id"]),
            provider=claims["idp"],
            provider_id=claims["sub"],
            email=claims["email"],
            display_name=claims["name"],
            is_service_account=claims["sub"].startswith(SERVICE_ACCOUNT_PREFIX),
            auth_time=claims["auth_time"],
            token_id=claims["jti"],
            session_id=_canonical(claims["sid"]),
            expires_at=claims["exp"],
            issued_at=claims["iat"],
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InvalidToken from error


def _canonical(value: str) -> str:
    """A UUID as this system writes it. Raises ValueError for other spellings: urn:uuid:, braces, no hyphens."""
    if str(UUID(value)) != value:
        raise ValueError(value)
    return value
