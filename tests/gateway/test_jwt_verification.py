"""RFC 7519 and RFC 9068: what an access token must be, and the published attacks on python-jose."""

import base64
import hashlib
import hmac
import json
import time
import zlib
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import example, given
from hypothesis import strategies as st
from jose import jws

from services.shared import jwt
from services.shared.access_token import principal_of
from tests.gateway.echo_services import ISSUER, USER_ID, Signer, claims

SECRET = "a-shared-secret-of-some-length"


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer()


@pytest.fixture(scope="module")
def keys(signer: Signer) -> dict[str, jwt.VerificationKey]:
    return {
        signer.kid: jwt.VerificationKey.load(signer.kid, "ES256", signer.public),
        "shared": jwt.VerificationKey.load("shared", "HS256", SECRET.encode()),
    }


def _verify(token: str, keys: dict[str, jwt.VerificationKey]) -> dict[str, Any]:
    return jwt.verify(token, keys, issuer=ISSUER, audience=ISSUER)


def _encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def _forged(header: dict[str, Any], payload: dict[str, Any], key: bytes | None) -> str:
    """A token signed with HMAC by hand, as an attacker does: no library refuses to make it."""
    signed = f"{_encoded(orjson.dumps(header))}.{_encoded(orjson.dumps(payload))}"
    signature = hmac.digest(key, signed.encode(), hashlib.sha256) if key is not None else b""
    return f"{signed}.{_encoded(signature)}"


def _refused(token: str, keys: dict[str, jwt.VerificationKey]) -> None:
    with pytest.raises(jwt.InvalidToken):
        _verify(token, keys)


def test_a_valid_token_gives_its_claims(signer: Signer, keys: dict[str, jwt.VerificationKey]) -> None:
    verified = _verify(signer.token(), keys)
    assert verified["tmi_user_id"] == USER_ID
    assert principal_of(verified).provider_id == "alice"
    assert _verify(signer.token(aud=ISSUER), keys)["aud"] == ISSUER
    shared = jwt.sign(claims(), kid="shared", algorithm="HS256", key=SECRET)
    assert _verify(shared, keys)["sub"] == "alice"


def test_rs256_keys_work() -> None:
    private = rsa.generate_private_key(65537, 2048)
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    keys = {"r": jwt.VerificationKey.load("r", "RS256", public)}
    assert _verify(jwt.sign(claims(), kid="r", algorithm="RS256", key=pem), keys)["sub"] == "alice"


def test_cve_2024_33663_a_public_key_is_never_an_hmac_secret(
    signer: Signer, keys: dict[str, jwt.VerificationKey]
) -> None:
    der = base64.b64decode("".join(signer.public.decode().splitlines()[1:-1]))
    for material in (signer.public, signer.public.strip(), der):
        header = {"alg": "HS256", "typ": jwt.TOKEN_TYPE, "kid": signer.kid}
        _refused(_forged(header, claims(), material), keys)
    with pytest.raises(ValueError, match="does not fit"):
        jwt.VerificationKey.load("x", "HS256", signer.public)
    with pytest.raises(ValueError, match="does not fit"):
        jwt.VerificationKey.load("x", "HS256", b"\n  " + signer.public)
    with pytest.raises(ValueError, match="does not fit"):
        jwt.VerificationKey.load("x", "ES256", SECRET.encode())


def test_cve_2024_33664_a_compressed_jwe_is_refused_without_being_inflated(
    keys: dict[str, jwt.VerificationKey], monkeypatch: pytest.MonkeyPatch
) -> None:
    header = {"alg": "dir", "enc": "A128CBC-HS256", "zip": "DEF", "typ": jwt.TOKEN_TYPE, "kid": "shared"}
    bomb = _encoded(zlib.compress(b"\0" * 50_000_000, 9))
    token = f"{_encoded(orjson.dumps(header))}..{_encoded(b'0' * 16)}.{bomb}.{_encoded(b'0' * 16)}"
    small = f"{_encoded(orjson.dumps(header))}..{_encoded(b'0' * 16)}.{bomb[:1000]}.{_encoded(b'0' * 16)}"

    def inflate(*_: object) -> None:
        raise AssertionError("inflated")

    monkeypatch.setattr(zlib, "decompress", inflate)
    monkeypatch.setattr(zlib, "decompressobj", inflate)
    _refused(token, keys)
    _refused(small, keys)


def test_a_token_over_the_size_limit_is_refused_unread(signer: Signer, keys: dict[str, jwt.VerificationKey]) -> None:
    token = signer.token(padding="x" * jwt.MAX_TOKEN_BYTES)
    assert len(token) > jwt.MAX_TOKEN_BYTES
    _refused(token, keys)


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "", "HS256", "HS512", "RS256", "ES384", None, 7])
def test_the_algorithm_belongs_to_the_key(
    signer: Signer, keys: dict[str, jwt.VerificationKey], alg: str | int | None
) -> None:
    header = {"alg": alg, "typ": jwt.TOKEN_TYPE, "kid": signer.kid}
    for key in (None, b"", SECRET.encode(), signer.public):
        _refused(_forged(header, claims(), key), keys)


@pytest.mark.parametrize(
    "headers",
    [
        {"typ": "JWT", "kid": "k1"},
        {"kid": "k1", "typ": None},
        {"typ": jwt.TOKEN_TYPE, "kid": "unknown"},
        {"typ": jwt.TOKEN_TYPE},
        {"typ": jwt.TOKEN_TYPE, "kid": ["k1"]},
        {"typ": jwt.TOKEN_TYPE, "kid": "shared"},
    ],
)
def test_wrong_type_or_key_id(signer: Signer, keys: dict[str, jwt.VerificationKey], headers: dict[str, Any]) -> None:
    _refused(jws.sign(claims(), signer.private, headers=headers, algorithm="ES256"), keys)


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "http://other.test"},
        {"iss": None},
        {"aud": ["http://other.test"]},
        {"aud": []},
        {"aud": None},
        {"aud": 5},
        {"exp": 1_700_000_000},
        {"exp": None},
        {"exp": "9999999999"},
        {"exp": 9999999999.5},
        {"nbf": 99_999_999_999},
        {"nbf": None},
        {"iat": 99_999_999_999},
        {"iat": None},
        {"jti": None},
        {"jti": ""},
        {"jti": 5},
        {"jti": ["token-1"]},
        {"jti": {"a": 1}},
        {"jti": True},
        {"sub": None},
        {"sub": ""},
        {"sub": 5},
        {"sub": ["alice"]},
        {"exp": 2**62},
        {"exp": True},
        {"iat": -1},
        {"iat": -(2**62)},
        {"iat": False},
        {"nbf": -(2**62)},
        {"nbf": True},
    ],
    ids="-".join,
)
def test_wrong_claims(signer: Signer, keys: dict[str, jwt.VerificationKey], change: dict[str, Any]) -> None:
    _refused(signer.token(**change), keys)


def test_a_clock_may_be_slightly_ahead(signer: Signer, keys: dict[str, jwt.VerificationKey]) -> None:
    soon = int(time.time()) + 10
    _verify(signer.token(iat=soon, nbf=soon), keys)


def test_a_changed_or_foreign_token_is_refused(signer: Signer, keys: dict[str, jwt.VerificationKey]) -> None:
    header, payload, signature = signer.token().split(".")
    admin = _encoded(orjson.dumps(claims(tmi_is_administrator=True)))
    _refused(f"{header}.{admin}.{signature}", keys)
    _refused(f"{header}.{payload}.", keys)
    _refused(f"{header}.{payload}", keys)
    _refused(Signer(signer.kid).token(), keys)


MUTATED = Signer()
TOKEN = MUTATED.token(exp=int(time.time()) + 86_400)
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \n"


@example(len(TOKEN) - 1, 1, "B")
@example(len(TOKEN), 0, "=")
@example(len(TOKEN) - 3, 0, "\n")
@given(st.integers(0, len(TOKEN)), st.integers(0, 3), st.text(ALPHABET, max_size=3))
def test_no_mutation_of_a_valid_token_is_accepted(position: int, gone: int, more: str) -> None:
    changed = TOKEN[:position] + more + TOKEN[position + gone :]
    keys = {MUTATED.kid: jwt.VerificationKey.load(MUTATED.kid, "ES256", MUTATED.public)}
    if changed != TOKEN:
        _refused(changed, keys)


def test_every_spelling_of_the_last_character_but_one_is_refused() -> None:
    keys = {MUTATED.kid: jwt.VerificationKey.load(MUTATED.kid, "ES256", MUTATED.public)}
    for character in ALPHABET[:64]:
        if character != TOKEN[-1]:
            _refused(TOKEN[:-1] + character, keys)
    assert _verify(TOKEN, keys)["sub"] == "alice"


@pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "é.é.é", "\0", "e30.e30.e30", "bnVsbA.bnVsbA.", "W10.e30."])
def test_garbage_is_refused(keys: dict[str, jwt.VerificationKey], token: str) -> None:
    _refused(token, keys)


def test_claims_that_are_no_object_are_refused(signer: Signer, keys: dict[str, jwt.VerificationKey]) -> None:
    token = jws.sign(
        json.dumps([1]).encode(),
        signer.private,
        headers={"typ": jwt.TOKEN_TYPE, "kid": signer.kid},
        algorithm="ES256",
    )
    _refused(token, keys)


@pytest.mark.parametrize("name", ["tmi_user_id", "idp", "email", "name", "auth_time", "sid"])
def test_a_principal_needs_every_claim(name: str) -> None:
    incomplete = {key: value for key, value in claims().items() if key != name}
    with pytest.raises(jwt.InvalidToken):
        principal_of(incomplete)
    with pytest.raises(jwt.InvalidToken):
        principal_of(claims() | {name: [1.5]})


NO_UUIDS: list[object] = [
    "",
    "alice",
    "5d0f0c3e",
    "5d0f0c3e-0000-4000-8000-00000000000g",
    "5d0f0c3e00004000800000000000000a",
    "{5d0f0c3e-0000-4000-8000-00000000000a}",
    "urn:uuid:5d0f0c3e-0000-4000-8000-00000000000a",
    "5D0F0C3E-0000-4000-8000-00000000000A",
    "5d0f0c3e-0000-4000-8000-00000000000a\n",
    7,
    1.5,
    True,
    None,
    ["5d0f0c3e-0000-4000-8000-00000000000a"],
    {"id": "5d0f0c3e-0000-4000-8000-00000000000a"},
]


@pytest.mark.parametrize("name", ["tmi_user_id", "sid"])
@pytest.mark.parametrize("value", NO_UUIDS)
def test_ids_of_a_principal_are_uuids(name: str, value: object) -> None:
    with pytest.raises(jwt.InvalidToken):
        principal_of(claims() | {name: value})
