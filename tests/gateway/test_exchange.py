import pytest

from gateway.exchange import Exchange, media_type
from services.shared.errors import ApiError


def _exchange(*headers: tuple[bytes, bytes]) -> Exchange:
    return Exchange({"method": "GET", "path": "/", "headers": list(headers)})


def test_repeated_headers_are_joined_as_their_syntax_allows() -> None:
    exchange = _exchange((b"accept", b"a"), (b"cookie", b"x=1"), (b"accept", b"b"), (b"cookie", b"y=2"))
    assert exchange.header(b"accept") == "a, b"
    assert (exchange.cookie("x"), exchange.cookie("y")) == ("1", "2")


def test_what_is_absent_is_none() -> None:
    exchange = _exchange((b"cookie", b'empty=; q=""'))
    assert exchange.header(b"accept") is None
    assert exchange.cookie("x") is None
    assert exchange.cookie("empty") is None
    assert exchange.cookie("q") is None


def test_a_media_type_has_no_case_and_no_parameters() -> None:
    assert media_type(b" Application/JSON ; charset=utf-8") == "application/json"
    with pytest.raises(ApiError):
        media_type("application/é".encode())
