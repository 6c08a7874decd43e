import orjson
import pytest
from jose import jwt as jose_jwt

from services.auth.tokens.jwks import thumbprint
from tests.auth.client import ISSUER, PUBLIC_URL, Answer, AuthClient
from tests.auth.conftest import Start
from tmi.auth.v1 import oauth_pb2

SECRET = "kX2vQ9-tR4mZ7pL1wC8nB5jH3gF6dS0a"


def jwks(client: AuthClient) -> Answer:
    return client.call(client.discovery.GetJwks, oauth_pb2.GetJwksRequest())


def test_the_providers_of_a_development_build(client: AuthClient) -> None:
    answer = client.call(client.oauth.ListProviders, oauth_pb2.ListProvidersRequest())
    (provider,) = answer.json["providers"]
    assert provider.keys() == {"id", "name", "icon", "auth_url", "token_url", "redirect_uri", "client_id"}
    assert provider["id"] == "tmi"
    assert provider["auth_url"] == f"{PUBLIC_URL}/oauth2/authorize?idp=tmi"
    assert provider["token_url"] == f"{PUBLIC_URL}/oauth2/token?idp=tmi"
    assert provider["redirect_uri"] == "http://localhost:8080/oauth2/callback"


def test_in_production_there_is_no_provider_yet(start: Start) -> None:
    client = start(build_mode="production").client
    answer = client.call(client.oauth.ListProviders, oauth_pb2.ListProvidersRequest())
    assert answer.json == {"providers": []}


@pytest.mark.parametrize(("algorithm", "members"), [("ES256", {"crv", "x", "y"}), ("RS256", {"n", "e"})])
def test_rfc7517_the_key_set_verifies_the_tokens(start: Start, algorithm: str, members: set[str]) -> None:
    client = start(jwt_signing_method=algorithm).client
    answer = jwks(client)
    (key,) = answer.json["keys"]
    assert key.keys() == {"kty", "use", "kid", "alg", "key_ops"} | members
    assert (key["use"], key["alg"], key["key_ops"]) == ("sig", algorithm, ["verify"])
    assert dict(answer.headers)["cache-control"] == "public, max-age=3600"
    token = client.log_in("alice").access
    assert jose_jwt.get_unverified_header(token) == {"alg": algorithm, "kid": key["kid"], "typ": "at+jwt"}
    claims = jose_jwt.decode(token, key, algorithms=[algorithm], audience=ISSUER, issuer=ISSUER)
    assert claims["sub"] == "alice"


def test_a_shared_secret_is_never_in_the_key_set(start: Start) -> None:
    client = start(jwt_signing_method="HS256", jwt_secret=SECRET).client
    assert client.claims(client.log_in("alice").access)["sub"] == "alice"
    answer = jwks(client)
    assert answer.json == {"keys": []}
    assert SECRET not in orjson.dumps(answer.headers).decode()


def test_rfc7638_section_3_1_example_thumbprint() -> None:
    public = b"""-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA0vx7agoebGcQSuuPiLJX
ZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tS
oc/BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ/2W+5JsGY4Hc5n9yBXArwl93lqt
7/RN5w6Cf0h4QyQ5v+65YGjQR0/FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0
zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt+bFTWhAI4vMQFh6WeZu0f
M4lFd2NcRwr3XPksINHaQ+G/xBniIqbw0Ls1jF44+csFCur+kEgU8awapJzKnqDK
gwIDAQAB
-----END PUBLIC KEY-----
"""
    assert thumbprint(public) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def test_rfc8414_authorization_server_metadata(client: AuthClient) -> None:
    request = oauth_pb2.GetAuthorizationServerMetadataRequest()
    answer = client.call(client.discovery.GetAuthorizationServerMetadata, request)
    assert dict(answer.headers)["cache-control"] == "public, max-age=3600"
    assert answer.json == {
        "issuer": ISSUER,
        "authorization_endpoint": f"{ISSUER}/oauth2/authorize",
        "token_endpoint": f"{ISSUER}/oauth2/token",
        "introspection_endpoint": f"{ISSUER}/oauth2/introspect",
        "revocation_endpoint": f"{ISSUER}/oauth2/revoke",
        "jwks_uri": f"{ISSUER}/.well-known/jwks.json",
        "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_methods_supported": ["none"],
        "authorization_response_iss_parameter_supported": True,
        "code_challenge_methods_supported": ["S256"],
        "scopes_supported": ["openid", "profile", "email"],
    }


def test_openid_configuration_promises_no_id_token(client: AuthClient) -> None:
    document = client.call(client.discovery.GetOpenIdConfiguration, oauth_pb2.GetOpenIdConfigurationRequest()).json
    assert document["userinfo_endpoint"] == f"{ISSUER}/oauth2/userinfo"
    assert document["subject_types_supported"] == ["public"]
    assert document["id_token_signing_alg_values_supported"] == []


def test_rfc9728_protected_resource_metadata(client: AuthClient) -> None:
    request = oauth_pb2.GetProtectedResourceMetadataRequest()
    document = client.call(client.discovery.GetProtectedResourceMetadata, request).json
    assert document["resource"] == ISSUER
    assert document["authorization_servers"] == [ISSUER]
    assert document["bearer_methods_supported"] == ["header"]


@pytest.mark.parametrize(
    ("settings", "base"),
    [
        ({"oauth_callback_url": "https://t.example/api/oauth2/callback"}, "https://t.example/api"),
        ({"oauth_callback_url": "https://t.example/elsewhere"}, "https://t.example"),
        (
            {"oauth_callback_url": "https://t.example/oauth2/callback", "public_url": "https://t.example/x/"},
            "https://t.example/x",
        ),
    ],
)
def test_the_issuer_and_addresses_come_from_the_configuration(
    start: Start, settings: dict[str, str], base: str
) -> None:
    client = start(**settings).client
    document = client.call(client.discovery.GetOpenIdConfiguration, oauth_pb2.GetOpenIdConfigurationRequest()).json
    assert document["issuer"] == "https://t.example"
    assert document["token_endpoint"] == f"{base}/oauth2/token"
