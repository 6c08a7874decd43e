"""From the claims of a provider to an Identity."""

import hashlib
import logging
import re
import unicodedata
from typing import Any

from services.auth.providers.configuration import ProviderConfiguration
from services.auth.providers.identity import Identity, looks_like_address
from services.auth.providers.provider import invalid_answer

logger = logging.getLogger(__name__)

_LONGEST_SUBJECT = 500
_LONGEST_ADDRESS = 320
_LONGEST_NAME = 256
_LONGEST_GROUP = 500
_MOST_GROUPS = 2000
_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,64}")


def identity_of(configuration: ProviderConfiguration, claims: dict[str, Any]) -> Identity:
    """The identity that verified claims describe. Raises ProviderFailure when they name no subject.

    A person without an address gets one that belongs to nobody, because clients need one; it is never verified.
    """
    names = configuration.userinfo_claims
    provider_id = _subject(claims.get(names.subject_claim))
    email = _address(claims.get(names.email_claim))
    verified = configuration.email_is_verified or _is_true(claims.get(names.email_verified_claim))
    return Identity(
        provider=configuration.id,
        provider_id=provider_id,
        email=email or _address_of_nobody(configuration.id, provider_id),
        display_name=_name(claims.get(names.name_claim)) or email or provider_id[:_LONGEST_NAME],
        email_verified=bool(email) and verified,
        groups=_groups(configuration.id, claims.get(names.groups_claim)) if names.groups_claim else (),
    )


def _subject(value: object) -> str:
    """A number counts, as GitHub's id is one."""
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not text or len(text) > _LONGEST_SUBJECT or not _is_text(text):
        raise invalid_answer("the provider does not say who logged in: its subject claim is missing or unusable")
    return text


def _address(value: object) -> str:
    text = value.strip().lower() if isinstance(value, str) else ""
    return text if len(text) <= _LONGEST_ADDRESS and looks_like_address(text) and _is_text(text) else ""


def _address_of_nobody(provider: str, provider_id: str) -> str:
    plain = provider_id if _PLAIN.fullmatch(provider_id) else hashlib.sha256(provider_id.encode()).hexdigest()
    return f"{plain}@{provider}.oauth.tmi".lower()


def _name(value: object) -> str:
    text = value if isinstance(value, str) else ""
    visible = "".join(character for character in text if _is_text(character))
    return " ".join(visible.split())[:_LONGEST_NAME]


def _groups(provider: str, value: object) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    names = dict.fromkeys(
        name for name in values if isinstance(name, str) and 0 < len(name) <= _LONGEST_GROUP and _is_text(name)
    )
    if len(names) > _MOST_GROUPS:
        logger.warning("not all groups of a person count", extra={"provider": provider, "groups": len(names)})
    return tuple(names)[:_MOST_GROUPS]


def _is_true(value: object) -> bool:
    """Entra and others write a boolean as 1, "1" or "true" as well."""
    return value is True or value in ("true", "1") or (value == 1 and isinstance(value, int))


def _is_text(text: str) -> bool:
    """No control, format, surrogate or unassigned characters, nor separators of lines."""
    return not any(unicodedata.category(character) in ("Cc", "Cf", "Cs", "Cn", "Zl", "Zp") for character in text)
