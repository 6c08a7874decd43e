import pytest

from services.auth.oauth.client_callback import is_allowed, with_parameters

LIST = ["http://localhost:4200/oauth2/callback", "https://app.example/*", "https://exact.example/cb?x=1"]


@pytest.mark.parametrize(
    "callback",
    [
        "http://localhost:4200/oauth2/callback",
        "https://app.example/",
        "https://app.example/a/b?c=d",
        "https://exact.example/cb?x=1",
    ],
)
def test_an_equal_callback_or_one_below_a_prefix_is_allowed(callback: str) -> None:
    assert is_allowed(callback, LIST)


@pytest.mark.parametrize(
    "callback",
    [
        "",
        "http://localhost:4200/oauth2/callback/",
        "http://localhost:4200/oauth2/callback?x=1",
        "https://localhost:4200/oauth2/callback",
        "http://LOCALHOST:4200/oauth2/callback",
        "https://app.example.evil/",
        "https://exact.example/cb",
    ],
)
def test_any_other_callback_is_refused(callback: str) -> None:
    assert not is_allowed(callback, LIST)


@pytest.mark.parametrize(
    "callback",
    [
        "javascript:alert(1)",
        "ftp://app.example/",
        "/relative",
        "https:///nohost",
        "https://user@app.example/",
        "https://app.example:port/",
        "https://app.example/a b",
        "https://app.example/\r\nx",
        "https://app.example\\@evil.example/",
        "https://app.example/é",
        "https://app.example/" + "a" * 1000,
    ],
)
def test_an_ill_formed_callback_is_refused_whatever_the_list_says(callback: str) -> None:
    assert not is_allowed(callback, ["*"])
    assert not is_allowed(callback, [callback])


def test_rfc6749_section_3_1_2_a_fragment_is_refused() -> None:
    assert not is_allowed("https://app.example/#x", LIST)


@pytest.mark.parametrize("path", ["in/../out", "in/%2e%2E/out", "in/.."])
def test_a_prefix_cannot_be_left_through_dot_segments(path: str) -> None:
    assert not is_allowed(f"https://app.example/{path}", ["https://app.example/in/*"])


def test_a_prefix_that_ends_within_the_authority_takes_no_credentials() -> None:
    assert is_allowed("http://localhost:9000/cb", ["http://localhost:*"])
    assert not is_allowed("http://localhost:9000@evil.example/cb", ["http://localhost:*"])


def test_an_empty_list_denies_everything() -> None:
    assert not is_allowed("http://localhost:4200/oauth2/callback", [])


@pytest.mark.parametrize(
    ("callback", "expected"),
    [
        ("https://a.example/cb", "https://a.example/cb?code=c%2B1&state=%3D"),
        ("https://a.example/cb?x=1", "https://a.example/cb?x=1&code=c%2B1&state=%3D"),
        ("https://a.example/cb?", "https://a.example/cb?code=c%2B1&state=%3D"),
    ],
)
def test_rfc6749_section_3_1_2_the_query_is_kept(callback: str, expected: str) -> None:
    assert with_parameters(callback, {"code": "c+1", "state": "="}) == expected
