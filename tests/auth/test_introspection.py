from tests.auth.client import ISSUER, AuthClient, Clock, Service

INACTIVE = {"active": False}


def test_rfc7662_section_2_2_the_caller_learns_of_a_token_of_its_own(client: AuthClient) -> None:
    tokens, other_session = client.log_in("alice"), client.log_in("alice")
    claims = client.claims(other_session.access)
    for hint in ({}, {"token_type_hint": "access_token"}, {"token_type_hint": "something"}):
        answer = client.introspect(tokens.access, token=other_session.access, **hint)
        assert answer.json == {
            "active": True,
            "sub": "alice",
            "email": "alice@tmi.local",
            "name": "Alice (TMI User)",
            "iat": claims["iat"],
            "exp": claims["exp"],
            "iss": ISSUER,
            "token_type": "bearer",
            "scope": "openid profile email",
        }


def test_rfc7662_section_4_without_a_right_to_ask_every_token_is_inactive(client: AuthClient) -> None:
    alice, bob = client.log_in("alice"), client.log_in("bob")
    for bearer in ("", "nonsense", bob.access, alice.refresh):
        answer = client.introspect(bearer, token=alice.access)
        assert (answer.status, answer.json) == (0, INACTIVE)


def test_not_even_an_administrator_learns_of_the_tokens_of_others(client: AuthClient) -> None:
    administrator, bob = client.log_in("alice"), client.log_in("bob")
    assert client.profile(administrator.access).json["is_admin"] is True
    assert client.introspect(administrator.access, token=bob.access).json == INACTIVE


def test_what_is_no_access_token_is_inactive(client: AuthClient) -> None:
    tokens = client.log_in()
    header, payload, signature = tokens.access.split(".")
    for token in ("unknown", tokens.refresh, f"{header}.{payload}.", f"{header}.{payload}.{signature[::-1]}"):
        assert client.introspect(tokens.access, token=token).json == INACTIVE


def test_an_expired_token_is_inactive(service: Service, clock: Clock) -> None:
    client = service.client
    early = client.log_in("alice")
    clock.advance(minutes=30)
    late = client.log_in("alice")
    assert client.introspect(late.access, token=early.access).json["active"] is True
    clock.advance(minutes=31)
    assert client.introspect(late.access, token=early.access).json == INACTIVE


def test_a_revoked_token_is_inactive_and_has_no_right_to_ask(client: AuthClient) -> None:
    tokens, other = client.log_in("alice"), client.log_in("alice")
    client.revoke(tokens.access, token=other.access)
    assert client.introspect(tokens.access, token=other.access).json == INACTIVE
    assert client.introspect(other.access, token=tokens.access).json == INACTIVE


def test_the_tokens_of_an_ended_session_are_inactive(client: AuthClient) -> None:
    tokens, other = client.log_in("alice"), client.log_in("alice")
    client.log_out(other.access)
    assert client.introspect(tokens.access, token=other.access).json == INACTIVE


def test_rfc6749_section_5_2_a_request_without_a_token_is_invalid_request(client: AuthClient) -> None:
    tokens = client.log_in()
    for parameters in ({}, {"token": ""}, {"token": "x", "extra": "x"}, {"token": "a\x00"}, {"token": "x" * 8193}):
        answer = client.introspect(tokens.access, **parameters)
        assert (answer.status, answer.error) == (400, "invalid_request")
