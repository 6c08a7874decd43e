"""What an identity provider says about the person who logged in."""

import re
from dataclasses import dataclass

from services.shared.principal import BUILT_IN_PROVIDER

_ADDRESS = re.compile(r"[^\s@\x00-\x1f]+@[^\s@\x00-\x1f]+")


@dataclass(frozen=True)
class Identity:
    """A verified identity. (`provider`, `provider_id`) is the key; the e-mail address is in lower case.

    groups: names the provider reports, which confer only groups of that same provider.
    """

    provider: str
    provider_id: str
    email: str
    display_name: str
    email_verified: bool
    groups: tuple[str, ...] = ()

    @property
    def owns_email(self) -> bool:
        """Whether the address proves who this is. The dev provider derives it from the provider id."""
        return self.email_verified or self.provider == BUILT_IN_PROVIDER


def looks_like_address(text: str) -> bool:
    """Whether a provider id may be an e-mail address, which clients write in its place."""
    return _ADDRESS.fullmatch(text) is not None
