"""The claims of an access token and the principal they stand for.

`sub` keeps the provider's user id and (`idp`, `sub`) identifies the user to clients; internal ids
travel in `tmi_user_id` and `tmi_group_ids`, so that groups are compared by id and never by name.
"""

from collections.abc import Mapping
from typing import Any

from services.shared.jwt import InvalidToken
from tmi.principal.v1.principal_pb2 import Principal

REVOCATIONS_CHANNEL = "tmi:revocations"
"""Redis channel on which the auth service publishes serialized tmi.auth.v1.Revocation messages."""

SERVICE_ACCOUNT_PREFIX = "sa:"


def principal_of(claims: Mapping[str, Any]) -> Principal:
    """The principal of verified claims. Raises InvalidToken when a claim is missing or has a wrong type."""
    try:
        return Principal(
            user_id=claims["tmi_user_id"],
            provider=claims["idp"],
            provider_id=claims["sub"],
            email=claims["email"],
            display_name=claims["name"],
            group_ids=claims["tmi_group_ids"],
            is_administrator=claims["tmi_is_administrator"],
            is_security_reviewer=claims["tmi_is_security_reviewer"],
            is_service_account=claims["sub"].startswith(SERVICE_ACCOUNT_PREFIX),
            auth_time=claims["auth_time"],
            token_id=claims["jti"],
            session_id=claims["sid"],
            expires_at=claims["exp"],
            issued_at=claims["iat"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise InvalidToken from error
