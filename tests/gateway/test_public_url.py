from typing import Any

import pytest

from gateway.exchange import Exchange
from gateway.public_url import PublicUrl
from gateway.trusted_proxies import TrustedProxies
from services.shared.errors import ApiError


def _exchange(headers: dict[str, str], peer: str | None = "10.0.0.1", **scope: Any) -> Exchange:
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    client = None if peer is None else (peer, 1)
    return Exchange({"method": "GET", "path": "/", "headers": raw, "client": client, "scheme": "http"} | scope)


def _url(headers: dict[str, str], *, configured: str = "", trusted: list[str] | None = None, tls: bool = False) -> str:
    return PublicUrl(configured, TrustedProxies(trusted or []), tls=tls).of(_exchange(headers))


@pytest.mark.parametrize("host", ["localhost:8080", "tmi.example", "10.1.2.3:1", "[::1]:8080", "a_b.example"])
def test_the_host_header_names_the_server(host: str) -> None:
    assert _url({"Host": host}) == f"http://{host}"
    assert _url({"Host": host}, tls=True) == f"https://{host}"


def test_the_configured_url_wins() -> None:
    assert _url({"Host": "evil"}, configured="https://tmi.example/api/") == "https://tmi.example/api"


def test_without_a_host_header_the_socket_names_the_server() -> None:
    url = PublicUrl("", TrustedProxies([]), tls=False)
    assert url.of(_exchange({}, server=("127.0.0.1", 8080))) == "http://127.0.0.1:8080"
    assert url.of(_exchange({})) == "http://localhost"


def test_forwarded_headers_count_only_from_trusted_peers() -> None:
    headers = {
        "Host": "inner",
        "X-Forwarded-Proto": "HTTPS",
        "X-Forwarded-Host": "outer:444",
        "X-Forwarded-Prefix": "/a/b/",
    }
    assert _url(headers) == "http://inner"
    assert _url(headers, trusted=["192.168.0.0/16"]) == "http://inner"
    assert _url(headers, trusted=["10.0.0.0/8"]) == "https://outer:444/a/b"
    assert _url({"Host": "inner"}, trusted=["10.0.0.1"]) == "http://inner"


def test_the_nearest_proxy_is_believed() -> None:
    headers = {"Host": "h", "X-Forwarded-Proto": "http, https", "X-Forwarded-Host": "evil, good"}
    assert _url(headers, trusted=["10.0.0.1"]) == "https://good"


def test_a_fallback_takes_the_place_of_what_strangers_say() -> None:
    url = PublicUrl("", TrustedProxies(["10.0.0.0/8"]), tls=False, fallback="https://tmi.example/api/")
    headers = {"Host": "evil.example", "X-Forwarded-Host": "outer", "X-Forwarded-Proto": "https"}
    assert url.of(_exchange(headers, "192.0.2.1")) == "https://tmi.example/api"
    assert url.of(_exchange(headers, "10.0.0.1")) == "https://outer"


@pytest.mark.parametrize(
    ("configured", "origin"),
    [
        ("https://TMI.example/api", "https://tmi.example"),
        ("https://tmi.example:443", "https://tmi.example"),
        ("http://tmi.example:80/", "http://tmi.example"),
        ("http://tmi.example:443", "http://tmi.example:443"),
        ("http://[::1]:8080/x", "http://[::1]:8080"),
    ],
)
def test_the_origin_is_what_browsers_send(configured: str, origin: str) -> None:
    assert PublicUrl(configured, TrustedProxies([]), tls=False).origin_of(_exchange({})) == origin


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "a b"},
        {"Host": "a/b"},
        {"Host": "a\r"},
        {"Host": "h", "X-Forwarded-Host": "a/b"},
        {"Host": "h", "X-Forwarded-Proto": "javascript"},
        {"Host": "h", "X-Forwarded-Prefix": "//evil"},
        {"Host": "h", "X-Forwarded-Prefix": "no-slash"},
    ],
)
def test_malformed_values_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ApiError) as refusal:
        _url(headers, trusted=["10.0.0.1"])
    assert (refusal.value.status, refusal.value.code) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("forwarded_for", "expected"),
    [
        ("1.2.3.4", "1.2.3.4"),
        ("6.6.6.6, 1.2.3.4", "1.2.3.4"),
        ("1.2.3.4, 10.0.0.7, 10.0.0.8", "1.2.3.4"),
        ("10.0.0.7, 10.0.0.8", "10.0.0.7"),
        ("nonsense, 10.0.0.8", "10.0.0.8"),
        ("1.2.3.4, nonsense", "10.0.0.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("", "10.0.0.1"),
    ],
)
def test_the_client_is_the_last_address_that_is_no_proxy(forwarded_for: str, expected: str) -> None:
    exchange = _exchange({"X-Forwarded-For": forwarded_for})
    assert TrustedProxies(["10.0.0.0/8"]).client_ip(exchange) == expected
    assert TrustedProxies([]).client_ip(exchange) == "10.0.0.1"
    assert TrustedProxies(["192.168.0.1"]).client_ip(exchange) == "10.0.0.1"


def test_a_peer_without_address_is_not_trusted() -> None:
    proxies = TrustedProxies(["0.0.0.0/0", "::/0"])
    assert proxies.client_ip(_exchange({"X-Forwarded-For": "1.2.3.4"}, None)) == ""
    assert not proxies.trusts(_exchange({}, "unix"))


def test_a_wrong_network_is_refused() -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        TrustedProxies(["10.0.0.0/99"])
