"""The session cookies of browser clients (RFC 6265)."""

from services.auth.tokens.login import Tokens
from services.shared.settings import Settings

ACCESS_COOKIE = "tmi_access_token"
REFRESH_COOKIE = "tmi_refresh_token"
REFRESH_PATH = "/oauth2"

_SECONDS_PER_DAY = 86_400
_PAST = "Thu, 01 Jan 1970 00:00:00 GMT"


class Cookies:
    """`set-cookie` headers as the settings want them; none at all when cookies are switched off."""

    def __init__(self, settings: Settings) -> None:
        self._enabled = settings.cookie_enabled
        self._refresh_seconds = settings.refresh_token_days * _SECONDS_PER_DAY
        self._suffix = f"; Domain={settings.cookie_domain}" if settings.cookie_domain else ""
        if settings.cookie_secure or settings.server_tls_enabled:
            self._suffix += "; Secure"

    def set(self, tokens: Tokens) -> list[tuple[str, str]]:
        """Headers that store both tokens."""
        return self._headers(
            f"{tokens.access_token}; Max-Age={tokens.expires_in}",
            f"{tokens.refresh_token}; Max-Age={self._refresh_seconds}",
        )

    def clear(self) -> list[tuple[str, str]]:
        """Headers that remove both tokens."""
        expired = f"; Max-Age=0; Expires={_PAST}"
        return self._headers(expired, expired)

    def _headers(self, access: str, refresh: str) -> list[tuple[str, str]]:
        if not self._enabled:
            return []
        return [
            ("set-cookie", f"{ACCESS_COOKIE}={access}; Path=/; HttpOnly; SameSite=Lax{self._suffix}"),
            ("set-cookie", f"{REFRESH_COOKIE}={refresh}; Path={REFRESH_PATH}; HttpOnly; SameSite=Strict{self._suffix}"),
        ]
