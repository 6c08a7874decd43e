"""ID tokens: whether one may be believed. OpenID Connect Core section 3.1.3.7, RFC 8725."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from authlib.oidc.core.claims import CodeIDToken
from joserfc import jws, jwt
from joserfc.errors import JoseError

from services.auth.providers.configuration import CONSUMERS_TENANT, TENANT, ProviderConfiguration, is_tenant_id
from services.auth.providers.openid_metadata import Metadata, SigningKey
from services.auth.providers.provider import UpstreamRequest, invalid_answer
from services.auth.providers.remembered import Remembered
from services.shared.jwt import CLOCK_SKEW_SECONDS, require_one_spelling

_KEY_TYPES = {"ES": "EC", "Ed": "OKP", "PS": "RSA", "RS": "RSA"}


class _Registry(jws.JWSRegistry):
    """Providers add header parameters of their own; those in `crit` must be known all the same."""

    max_header_length = 8 * 1024

    def __init__(self, algorithms: Sequence[str]) -> None:
        super().__init__(algorithms=algorithms, strict_check_header=False)


def verify(
    text: object,
    access_token: str,
    request: UpstreamRequest,
    configuration: ProviderConfiguration,
    metadata: Metadata,
    keys: Remembered[Sequence[SigningKey]],
    now: datetime,
) -> dict[str, Any]:
    """The claims of an ID token that this provider issued to us in this login. Raises ProviderFailure.

    Checked are the algorithm (one of the provider's that we accept), the signature, iss, aud, azp, exp, nbf, iat,
    nonce and at_hash; `sub` is there. A key that is not in the known set has the set fetched once more.
    """
    if not isinstance(text, str) or not text.isascii():
        raise invalid_answer("the token endpoint gave no ID token")
    registry = _Registry(metadata.algorithms)
    try:
        extracted = jws.extract_compact(text.encode(), registry=registry)
        require_one_spelling(text)
        header = extracted.headers()
        if header.get("alg") not in metadata.algorithms:
            raise invalid_answer("the ID token is signed with an algorithm that is not accepted")
        key = _find(keys.get(), header) or _find(keys.again(), header)
        if key is None:
            raise invalid_answer("the ID token is signed with a key that the provider does not publish")
        token = jwt.decode(text, key.key, algorithms=metadata.algorithms, registry=registry)
        issuer = _issuer(metadata.issuer, configuration, token.claims)
        if key.issuer and key.issuer.replace(TENANT, str(token.claims.get("tid"))) != issuer:
            raise invalid_answer("the ID token is signed with a key of another tenant")
        claims = CodeIDToken(
            token.claims,
            token.header,
            {
                "iss": {"essential": True, "value": issuer},
                "aud": {"essential": True, "value": configuration.client_id},
                "nonce": {"essential": True, "value": request.nonce},
            },
            {"client_id": configuration.client_id, "nonce": request.nonce, "access_token": access_token},
        )
        claims.validate(int(now.timestamp()), CLOCK_SKEW_SECONDS)
    except JoseError as error:
        claim = getattr(error, "claim", "")
        raise invalid_answer(f"the ID token is not valid ({error.error}{f': {claim}' if claim else ''})") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise invalid_answer(f"the ID token is malformed ({type(error).__name__})") from error
    return dict(claims)


def _find(keys: Sequence[SigningKey], header: dict[str, Any]) -> SigningKey | None:
    """The key that the header names; without a name, the only one of its type."""
    kty = _KEY_TYPES[str(header["alg"])[:2]]
    kid = header.get("kid")
    found = [key for key in keys if key.key.key_type == kty and (kid is None or key.kid == kid)]
    return found[0] if len(found) == 1 else None


def _issuer(issuer: str, configuration: ProviderConfiguration, claims: dict[str, Any]) -> str:
    """What `iss` must be: of a provider with tenants, its template with the tenant of the token put in."""
    if TENANT not in issuer:
        return issuer
    tenant = claims.get("tid")
    if not is_tenant_id(tenant) or (configuration.tenant == "organizations" and tenant == CONSUMERS_TENANT):
        raise invalid_answer("the ID token is of no tenant that is accepted")
    return issuer.replace(TENANT, str(tenant))
