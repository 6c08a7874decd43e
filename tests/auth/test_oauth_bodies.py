import pytest
from google.api.httpbody_pb2 import HttpBody

from services.auth.oauth.bodies import FORM, RefreshBody, RevokeBody, TokenBody, parse
from services.shared.errors import ApiError
from tests.auth.client import body_of


@pytest.mark.parametrize("form", [False, True])
def test_both_encodings_give_the_same_body(form: bool) -> None:
    body = parse(TokenBody, body_of({"grant_type": "Refresh_Token", "refresh_token": "a b+c"}, form=form))
    assert body.grant_type == "refresh_token"
    assert body.refresh_token == "a b+c"


def test_null_counts_as_absent() -> None:
    assert parse(TokenBody, body_of({"grant_type": "refresh_token", "code": None})).code is None


def test_rfc6749_section_3_1_an_empty_form_parameter_is_absent() -> None:
    body = HttpBody(content_type=FORM, data=b"grant_type=refresh_token&code=")
    assert parse(TokenBody, body).code is None


def test_an_empty_body_is_an_empty_object() -> None:
    assert parse(RefreshBody, HttpBody()).refresh_token is None


@pytest.mark.parametrize(
    ("content_type", "data"),
    [
        ("application/json", b"{"),
        ("application/json", b"[]"),
        ("application/json", b"{}"),
        ("application/json", b'{"grant_type":1}'),
        ("application/json", b'{"grant_type":""}'),
        ("application/json", b'{"grant_type":"refresh_token","unknown":"x"}'),
        ("application/json", '{"grant_type":"authorization_code","code":"ä"}'.encode()),
        (FORM, b"grant_type=refresh_token&grant_type=refresh_token"),
        (FORM, b"grant_type=refresh_token&unknown=x"),
        (FORM, b"code=%ff%fe"),
        (FORM, "code=ä".encode()),
        (FORM, b"&".join(b"a%d=1" % number for number in range(60))),
    ],
)
def test_a_body_outside_the_rules_is_invalid_request(content_type: str, data: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        parse(TokenBody, HttpBody(content_type=content_type, data=data))
    assert (caught.value.status, caught.value.code) == (400, "invalid_request")


def test_the_error_names_the_parameter_and_not_its_value() -> None:
    with pytest.raises(ApiError) as caught:
        parse(RefreshBody, body_of({"refresh_token": "secret\x00"}))
    assert "refresh_token" in caught.value.message
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("hint", ["access_token", "REFRESH_TOKEN", None])
def test_rfc7009_section_2_1_token_type_hint(hint: str | None) -> None:
    assert parse(RevokeBody, body_of({"token": "t", "token_type_hint": hint})).token == "t"


def test_an_unknown_token_type_hint_is_refused() -> None:
    with pytest.raises(ApiError):
        parse(RevokeBody, body_of({"token": "t", "token_type_hint": "id_token"}))
