"""Which identity providers an operator has configured.

A provider is a set of fields: from the environment (`OAUTH_PROVIDERS_<ID>_<FIELD>`), over the YAML file that
TMI_CONFIG_FILE names (`auth.oauth.providers.<id>.<field>`), over what is built in for `google`, `github` and
`microsoft`. In the environment the id is in upper case, with `_` for `-`. Only the auth service reads this,
so no other process holds a client secret.
"""

import logging
import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from services.shared.principal import BUILT_IN_PROVIDER
from services.shared.startup import CannotStart

logger = logging.getLogger(__name__)

PREFIX = "OAUTH_PROVIDERS_"
TENANT = "{tenantid}"
"""Stands for the tenant in the issuer of a provider with tenants."""
SHARED_TENANTS = ("common", "organizations")
CONSUMERS_TENANT = "9188040d-6c67-4c5b-b112-36a304b66dad"

_ID = re.compile(r"[a-zA-Z][a-zA-Z0-9_-]{0,99}")
_PARAMETERS = "ADDITIONAL_PARAMS_"
_CLAIMS = "USERINFO_CLAIMS_"
_OF_THE_PROTOCOL = {
    *("client_id", "redirect_uri", "response_type", "response_mode", "scope", "state", "nonce"),
    *("code_challenge", "code_challenge_method", "request", "request_uri"),
}


def _split(value: object) -> object:
    return re.split(r"[\s,]+", value.strip()) if isinstance(value, str) else value


def is_safe_url(url: str) -> bool:
    """Whether a provider may be spoken to under this URL: https, or http on this machine."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    if not host or "@" in parts.netloc or parts.fragment or not url.isascii() or not url.isprintable() or " " in url:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _require_safe_url(url: str) -> str:
    if not is_safe_url(url):
        raise ValueError("must be an https URL (http only for this machine) without user name and fragment")
    return url


Url = Annotated[str, AfterValidator(_require_safe_url)]
Words = Annotated[list[str], BeforeValidator(_split)]


class ClaimNames(BaseModel):
    """Which claim of the provider says what. groups_claim: empty when the provider's groups do not count."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject_claim: str = "sub"
    email_claim: str = "email"
    email_verified_claim: str = "email_verified"
    name_claim: str = "name"
    groups_claim: str = ""


class ProviderConfiguration(BaseModel):
    """One provider: of OpenID Connect when it has an issuer, else of plain OAuth 2.

    emails_url: lists a person's addresses as GitHub does. tenant: of an issuer with `{tenantid}` in it.
    email_is_verified: the operator vouches for the addresses of a provider that only its own organisation uses.
    additional_params: of the authorization request.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, Field(pattern=f"^{_ID.pattern}$")]
    name: Annotated[str, Field(max_length=100)] = ""
    icon: Annotated[str, Field(max_length=200)] = "fa-solid fa-key"
    client_id: Annotated[str, Field(min_length=1, max_length=1000)]
    client_secret: Annotated[SecretStr, Field(min_length=1, max_length=4000)]
    scopes: Words = []
    issuer: Url | None = None
    tenant: str = ""
    authorization_url: Url | None = None
    token_url: Url | None = None
    userinfo_url: Url | None = None
    emails_url: Url | None = None
    token_endpoint_auth_method: Literal["client_secret_basic", "client_secret_post"] | None = None
    userinfo_claims: ClaimNames = ClaimNames()
    email_is_verified: bool = False
    additional_params: dict[str, str] = {}

    @model_validator(mode="after")
    def _complete(self) -> "ProviderConfiguration":
        if self.issuer is None and not (self.authorization_url and self.token_url and self.userinfo_url):
            raise ValueError("needs an issuer, or authorization_url, token_url and userinfo_url")
        if self.issuer and TENANT in self.issuer:
            _require_tenant(self.tenant)
        elif self.tenant:
            raise ValueError("has a tenant, which only an issuer with {tenantid} in it needs")
        if self.email_is_verified and self.tenant in SHARED_TENANTS:
            raise ValueError("is open to every tenant, so email_is_verified cannot be promised for it")
        if fixed := _OF_THE_PROTOCOL & self.additional_params.keys():
            raise ValueError(f"cannot set {', '.join(sorted(fixed))} in additional_params: the protocol does")
        return self

    @property
    def display_name(self) -> str:
        """What a login button says."""
        return self.name or self.id.replace("-", " ").replace("_", " ").title()


def _require_tenant(tenant: str) -> None:
    if tenant not in SHARED_TENANTS and not is_tenant_id(tenant):
        raise ValueError(f"needs a tenant: the tenant's id (a UUID), or {' or '.join(SHARED_TENANTS)}")


def is_tenant_id(text: object) -> bool:
    """Whether this is a tenant's id as tokens have it: a UUID in lower case."""
    return isinstance(text, str) and re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text) is not None


_BUILT_IN: Mapping[str, Mapping[str, Any]] = {
    "google": {
        "name": "Google",
        "icon": "fa-brands fa-google",
        "issuer": "https://accounts.google.com",
    },
    "github": {
        "name": "GitHub",
        "icon": "fa-brands fa-github",
        "authorization_url": "https://github.com/login/oauth/authorize",
        "token_url": "https://github.com/login/oauth/access_token",
        "userinfo_url": "https://api.github.com/user",
        "emails_url": "https://api.github.com/user/emails",
        "scopes": ["read:user", "user:email"],
        "userinfo_claims": {"subject_claim": "id"},
    },
    "microsoft": {
        "name": "Microsoft",
        "icon": "fa-brands fa-microsoft",
        "issuer": f"https://login.microsoftonline.com/{TENANT}/v2.0",
        "tenant": "common",
        # The address is an attribute that a tenant's administrators write: only this claim vouches for it.
        "userinfo_claims": {"email_verified_claim": "xms_edov"},
    },
}

_DISCOVERED = {"authorization_url", "token_url", "userinfo_url", "emails_url"}
"""Fields that an issuer names itself."""
_FIELDS = sorted([*(ProviderConfiguration.model_fields.keys() - {"id"}), "enabled"], key=len, reverse=True)


def read(environment: Mapping[str, str], file: str = "") -> list[ProviderConfiguration]:
    """The enabled providers in the order of their ids. `tmi` is not among them: it is not configured.

    environment: variables by name. file: path of the YAML file, if there is one.
    Raises CannotStart for a provider that is configured wrongly, in one line without its secret.
    """
    from_file = {_key(identifier): (identifier, fields) for identifier, fields in _in_file(file)}
    from_environment = _in_environment(environment)
    found = []
    for key in sorted(from_file.keys() | from_environment.keys()):
        identifier, fields = from_file.get(key, (key.lower().replace("_", "-"), {}))
        if identifier == BUILT_IN_PROVIDER:
            continue
        merged = _merged(_BUILT_IN.get(identifier, {}), fields, from_environment.get(key, {}))
        if str(merged.pop("enabled", "true")).lower() == "true":
            found.append(_checked(identifier, key, _used(identifier, merged)))
    return found


def _key(identifier: str) -> str:
    return identifier.upper().replace("-", "_")


def _merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of all layers, later ones first; of a field that is a mapping, its members."""
    result: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            before = result.get(name)
            result[name] = {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
    return result


def _used(identifier: str, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields that mean something here. Guides for other servers name more, which do no harm."""
    unused = fields.keys() - set(_FIELDS)
    if fields.get("issuer"):
        unused |= fields.keys() & _DISCOVERED
    for name in sorted(unused):
        logger.warning("unused setting of an identity provider", extra={"provider": identifier, "field": name})
    return {name: value for name, value in fields.items() if name not in unused}


def _checked(identifier: str, key: str, fields: dict[str, Any]) -> ProviderConfiguration:
    try:
        return ProviderConfiguration(id=identifier, **fields)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        variable = f", or {PREFIX}{key}_{where.upper().replace('.', '_')} in the environment" if where else ""
        path = f"auth.oauth.providers.{identifier}{'.' if where else ''}{where}"
        raise CannotStart(f"The identity provider {identifier!r} ({path}{variable}): {message}.") from None


def _in_file(file: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if not file:
        return
    try:
        value: Any = yaml.safe_load(Path(file).read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CannotStart(f"The configuration file {file} cannot be read: {type(error).__name__}.") from None
    for name in ("auth", "oauth", "providers"):
        value = value.get(name) if isinstance(value, dict) else None
    for identifier, fields in (value if isinstance(value, dict) else {}).items():
        if not isinstance(identifier, str) or not _ID.fullmatch(identifier) or not isinstance(fields, dict):
            raise CannotStart(
                f"auth.oauth.providers in {file}: {identifier!r} is no provider. An id is a letter, then at most 99"
                " letters, digits, - and _; what follows it are its fields."
            )
        yield identifier, fields


def _in_environment(environment: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for variable, value in environment.items():
        if not variable.startswith(PREFIX) or not value:
            continue
        parsed = _field_of(variable.removeprefix(PREFIX))
        if parsed is None or not _ID.fullmatch(parsed[0]):
            logger.warning("unknown setting of an identity provider", extra={"variable": variable})
            continue
        key, group, field = parsed
        fields = found.setdefault(key, {})
        (fields.setdefault(group, {}) if group else fields)[field] = value
    return found


def _field_of(rest: str) -> tuple[str, str, str] | None:
    """Id, group of fields (or empty) and field of what follows the prefix."""
    for marker, group in ((_PARAMETERS, "additional_params"), (_CLAIMS, "userinfo_claims")):
        key, found, field = rest.partition(f"_{marker}")
        if found and field:
            return key, group, field.lower()
    for field in _FIELDS:
        if rest.endswith(f"_{field.upper()}"):
            return rest[: -len(field) - 1], "", field
    return None
