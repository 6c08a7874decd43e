"""The built-in identity provider `tmi` for development and tests: whoever names a user is that user.

It exists only when the build mode is `dev` or `test`. A code starts with
`test_auth_code_<unix seconds>`, then `_hint_<padded base64url of the hint>` when the login named a
user, then `.` and random characters, so that codes made in the same second differ. Clients that
build codes themselves leave the random part out.

A hint is trimmed and lower-cased and must then be 3 to 20 of `a-z`, `0-9` and `-`, not beginning or
ending with `-`. A login form may offer more characters: such a hint is refused with the rule in the
error instead of silently becoming some other user.
"""

import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error

from services.auth.providers.identity import Identity
from services.shared.principal import BUILT_IN_PROVIDER
from services.shared.settings import Settings

ID = BUILT_IN_PROVIDER
NAME = "TMI (development)"
ICON = "fa-solid fa-user"
CLIENT_ID = "tmi-development"
HINT_RULE = "login_hint must be 3 to 20 letters, digits or hyphens and must not begin or end with a hyphen."

_HINT = re.compile(r"[a-z0-9](?:[a-z0-9-]{1,18})[a-z0-9]")
_CODE = re.compile(r"test_auth_code_[0-9]{1,12}(?:_hint_(?P<hint>[A-Za-z0-9_-]+={0,2}))?(?:\.[A-Za-z0-9_-]+)?")


class InvalidHint(Exception):
    """The hint names no possible user."""


class InvalidCode(Exception):
    """The text is no code of this provider."""


def exists(settings: Settings) -> bool:
    """Whether this process has the provider at all."""
    return settings.build_mode in ("dev", "test")


def normalise_hint(hint: str) -> str:
    """The user name a hint stands for. Raises InvalidHint."""
    name = hint.strip().lower()
    if not _HINT.fullmatch(name):
        raise InvalidHint
    return name


def new_code(now: float, hint: str) -> str:
    """A code for the user the hint names, or for a new one when it is empty. Raises InvalidHint."""
    code = f"test_auth_code_{int(now)}"
    if hint:
        normalise_hint(hint)
        code += "_hint_" + urlsafe_b64encode(hint.encode()).decode()
    return f"{code}.{secrets.token_urlsafe(16)}"


def is_code(text: str) -> bool:
    """Whether the text has the form of a code of this provider."""
    return _CODE.fullmatch(text) is not None


def exchange(code: str) -> Identity:
    """The identity a code stands for. Raises InvalidCode or InvalidHint."""
    match = _CODE.fullmatch(code)
    if match is None:
        raise InvalidCode
    if match["hint"] is None:
        digits = f"{secrets.randbelow(10**8):08d}"
        return _identity(f"testuser-{digits}", f"Test User {digits}")
    try:
        hint = urlsafe_b64decode(match["hint"]).decode()
    except (Base64Error, UnicodeDecodeError) as error:
        raise InvalidCode from error
    name = normalise_hint(hint)
    words = " ".join(word.capitalize() for word in name.split("-") if word)
    return _identity(name, f"{words} (TMI User)")


def _identity(provider_id: str, display_name: str) -> Identity:
    return Identity(ID, provider_id, f"{provider_id}@tmi.local", display_name, email_verified=False)
