from services.auth.tokens.cookies import Cookies
from services.auth.tokens.login import Tokens
from services.shared.settings import Settings

TOKENS = Tokens("a.b.c", "refresh", 3600, "session")


def test_both_cookies_with_their_attributes() -> None:
    assert Cookies(Settings()).set(TOKENS) == [
        ("set-cookie", "tmi_access_token=a.b.c; Max-Age=3600; Path=/; HttpOnly; SameSite=Lax"),
        ("set-cookie", "tmi_refresh_token=refresh; Max-Age=604800; Path=/oauth2; HttpOnly; SameSite=Strict"),
    ]


def test_secure_when_asked_for_or_when_this_server_speaks_tls() -> None:
    for settings in (Settings(cookie_secure=True), Settings(server_tls_enabled=True)):
        assert all(value.endswith("; Secure") for _, value in Cookies(settings).set(TOKENS))


def test_domain() -> None:
    for _, value in Cookies(Settings(cookie_domain="tmi.example")).set(TOKENS):
        assert value.endswith("; Domain=tmi.example")


def test_clearing_empties_and_expires_under_the_same_path_and_domain() -> None:
    access, refresh = (value for _, value in Cookies(Settings(cookie_domain="tmi.example")).clear())
    assert access.startswith("tmi_access_token=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Path=/;")
    assert refresh.startswith("tmi_refresh_token=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Path=/oauth2;")
    assert access.endswith("; Domain=tmi.example")


def test_switched_off_there_are_none() -> None:
    cookies = Cookies(Settings(cookie_enabled=False))
    assert cookies.set(TOKENS) == cookies.clear() == []
