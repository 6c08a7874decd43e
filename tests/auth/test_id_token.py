from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey

from services.auth.providers import id_token
from services.auth.providers.configuration import ProviderConfiguration
from services.auth.providers.openid_metadata import Metadata, SigningKey
from services.auth.providers.provider import ProviderFailure, UpstreamRequest
from services.auth.providers.remembered import Remembered

NOW = datetime(2030, 1, 1, tzinfo=UTC)
ISSUER = "https://login.example.com"
REQUEST = UpstreamRequest("state", "v" * 43, "n0nce")
CONFIGURATION = ProviderConfiguration(id="corp", issuer=ISSUER, client_id="tmi", client_secret="s")
METADATA = Metadata(
    ISSUER, f"{ISSUER}/a", f"{ISSUER}/t", "", f"{ISSUER}/k", ("ES256",), "client_secret_basic", announces_issuer=False
)
KEY = ECKey.generate_key("P-256", {"kid": "k"})
KEYS: Remembered[Sequence[SigningKey]] = Remembered("keys", lambda: [SigningKey("k", KEY, "")], lambda: 0.0)
CLAIMS = {"iss": ISSUER, "aud": "tmi", "sub": "jane", "nonce": "n0nce", "iat": 1893456000, "exp": 1893456300}
TOKEN = jwt.encode({"alg": "ES256", "kid": "k"}, CLAIMS, KEY)
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \n"


def verify(token: object) -> dict[str, object]:
    return id_token.verify(token, "access", REQUEST, CONFIGURATION, METADATA, KEYS, NOW)


def test_it_is_valid_as_it_was_issued() -> None:
    assert verify(TOKEN)["sub"] == "jane"


@given(st.integers(0, len(TOKEN) - 1), st.sampled_from(ALPHABET))
def test_no_token_with_another_character_is_accepted(position: int, character: str) -> None:
    changed = TOKEN[:position] + character + TOKEN[position + 1 :]
    if changed != TOKEN:
        with pytest.raises(ProviderFailure):
            verify(changed)


@given(st.integers(0, len(TOKEN)), st.text(ALPHABET, min_size=1, max_size=3))
def test_no_token_with_more_characters_is_accepted(position: int, more: str) -> None:
    with pytest.raises(ProviderFailure):
        verify(TOKEN[:position] + more + TOKEN[position:])


@given(st.integers(0, len(TOKEN) - 1), st.integers(1, 3))
def test_no_token_with_fewer_characters_is_accepted(position: int, fewer: int) -> None:
    with pytest.raises(ProviderFailure):
        verify(TOKEN[:position] + TOKEN[position + fewer :])


@given(
    st.one_of(
        *(st.none(), st.integers(), st.binary(), st.lists(st.text())),
        *(st.text(), st.lists(st.text(ALPHABET), min_size=2, max_size=4).map(".".join)),
    )
)
def test_anything_else_is_refused_and_nothing_else_happens(token: object) -> None:
    with pytest.raises(ProviderFailure):
        verify(token)
