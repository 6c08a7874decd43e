"""The access token by which a caller of a token endpoint proves who it is (RFC 6750 section 2.1)."""

from services.auth.tokens.login import InvalidCaller


def bearer_token(authorization: str) -> str:
    """The token of an Authorization header. Raises InvalidCaller."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token or " " in token:
        raise InvalidCaller
    return token
