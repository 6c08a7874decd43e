"""What an identity provider is to the login: a redirect there, and an identity for the code that comes back."""

import re
import secrets
from dataclasses import dataclass
from typing import Protocol, Self

from services.auth.providers.configuration import ProviderConfiguration
from services.auth.providers.identity import Identity

UNAVAILABLE = "temporarily_unavailable"
INVALID = "provider_response_invalid"
REFUSED = "access_denied"

ERROR_TEXT = re.compile(r"[\x20-\x21\x23-\x5b\x5d-\x7e]*")
"""What an error or its description may be made of, RFC 6749 sections 4.1.2.1 and 5.2."""
_LONGEST_REASON = 300


class ProviderFailure(Exception):
    """A login that the provider makes impossible.

    code, description: `error` and `error_description` of the authorization response to the client.
    reason: for the log, so that an operator can act on it; never a code, token or secret.
    """

    def __init__(self, code: str, description: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.description = description
        self.reason = reason[:_LONGEST_REASON]


def unavailable(reason: str) -> ProviderFailure:
    """The provider cannot be reached, or says that it cannot answer."""
    return ProviderFailure(UNAVAILABLE, "The identity provider cannot be reached at the moment.", reason)


def invalid_answer(reason: str) -> ProviderFailure:
    """The provider answered what must not be believed."""
    return ProviderFailure(INVALID, "The identity provider gave an answer that is not valid.", reason)


def refused(error: object) -> ProviderFailure:
    """The provider refused the code or the client, RFC 6749 section 5.2. error: what it called the reason.

    Its description is left out: a provider may repeat what was sent to it.
    """
    text = error if isinstance(error, str) and len(error) <= 64 and ERROR_TEXT.fullmatch(error) else "unknown"
    return ProviderFailure(REFUSED, "The identity provider refused the login.", f"the token endpoint says {text}")


@dataclass(frozen=True)
class UpstreamRequest:
    """One authorization request to a provider; all three are random and work once.

    state: ties the answer to this login and so to its provider. code_verifier: PKCE, RFC 7636.
    nonce: ties the ID token to this login, OpenID Connect Core section 3.1.2.1.
    """

    state: str
    code_verifier: str
    nonce: str

    @classmethod
    def new(cls) -> Self:
        """Three values of 256 random bits each."""
        return cls(secrets.token_urlsafe(32), secrets.token_urlsafe(32), secrets.token_urlsafe(32))


class Provider(Protocol):
    """One configured provider. Safe for threads."""

    configuration: ProviderConfiguration

    def authorization_url(self, request: UpstreamRequest) -> str:
        """Where the browser is sent. Raises ProviderFailure."""
        ...

    def check_response(self, issuer: str) -> None:
        """Whether an authorization response that names this issuer (empty: none) can be this provider's.

        RFC 9207 section 2.4. Raises ProviderFailure.
        """
        ...

    def identify(self, code: str, request: UpstreamRequest) -> Identity:
        """Exchanges the code and verifies who it stands for. Raises ProviderFailure."""
        ...
