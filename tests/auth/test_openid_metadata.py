from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import httpx
import pytest
from joserfc.jwk import ECKey, RSAKey
from starlette.responses import JSONResponse

from services.auth.providers.configuration import ProviderConfiguration
from services.auth.providers.openid_metadata import fetch_keys, fetch_metadata
from services.auth.providers.provider import ProviderFailure
from services.auth.providers.upstream_http import Upstream
from tests.auth.openid_server import openid_server

ISSUER = "https://login.example.com"
ENDPOINTS = ("authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri")


@contextmanager
def answering(document: dict[str, Any]) -> Iterator[Upstream]:
    """An upstream under whose every https URL this document is found."""
    upstream = Upstream(1)
    upstream.session.close()
    upstream.session = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, json=document)))
    with closing(upstream.session):
        yield upstream


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize(
    "url", ["http://localhost:6379/", "http://127.0.0.1/", "http://a.example/", "file:///x", 7, ["x"]]
)
def test_an_issuer_elsewhere_cannot_lead_to_a_service_of_this_machine(endpoint: str, url: object) -> None:
    configuration = ProviderConfiguration(id="corp", issuer=ISSUER, client_id="tmi", client_secret="s")
    right = {"issuer": ISSUER, **{name: f"{ISSUER}/{name}" for name in ENDPOINTS}}
    with answering(right) as upstream:
        assert fetch_metadata(upstream, configuration).jwks_uri == f"{ISSUER}/jwks_uri"
    with answering({**right, endpoint: url}) as upstream, pytest.raises(ProviderFailure):
        fetch_metadata(upstream, configuration)


def test_keys_that_cannot_verify_id_tokens_are_left_out() -> None:
    usable: list[ECKey | RSAKey] = [
        ECKey.generate_key("P-256", {"kid": "ec"}),
        RSAKey.generate_key(2048, {"kid": "rsa", "use": "sig"}),
    ]
    keys: list[Any] = [
        *(key.as_dict(private=False) for key in usable),
        ECKey.generate_key("P-256", {"kid": "for encryption", "use": "enc"}).as_dict(private=False),
        {"kty": "oct", "kid": "a secret", "k": "AAAA"},
        {"kty": "EC", "kid": "broken"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        *({"kty": "new"}, {}, 7, None),
    ]
    with openid_server() as provider:
        provider.answers["/jwks"] = lambda: JSONResponse({"keys": keys})
        upstream = Upstream(1)
        with closing(upstream.session):
            assert [key.kid for key in fetch_keys(upstream, f"{provider.url}/jwks")] == ["ec", "rsa"]


@pytest.mark.parametrize("answer", [{}, {"keys": {}}, {"keys": [{}] * 101}])
def test_what_is_no_key_set_is_refused(answer: dict[str, Any]) -> None:
    with answering(answer) as upstream, pytest.raises(ProviderFailure):
        fetch_keys(upstream, f"{ISSUER}/jwks")
