"""Request bodies of the OAuth endpoints, as JSON or as a form, checked by one model each.

Both forms are closed: an unknown or repeated parameter is 400 `invalid_request` (RFC 6749 section
3.1 forbids repetition). A form parameter without a value counts as absent, as that section says.
"""

from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import parse_qsl

import orjson
from google.api.httpbody_pb2 import HttpBody
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from services.shared.errors import invalid_request

FORM = "application/x-www-form-urlencoded"
_NO_CONTROLS = r"^[^\x00-\x1f]*$"


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


Body = TypeVar("Body", bound=BaseModel)


class TokenBody(BaseModel):
    """POST /oauth2/token, RFC 6749 sections 4.1.3, 4.4.2 and 6."""

    model_config = ConfigDict(extra="forbid", strict=True)

    grant_type: Annotated[str, BeforeValidator(_lower), Field(min_length=1, max_length=64)]
    code: Annotated[str, Field(max_length=8192, pattern=r"^[\x20-\x7e]+$")] | None = None
    code_verifier: Annotated[str, Field(max_length=128)] | None = None
    redirect_uri: Annotated[str, Field(max_length=1000)] | None = None
    refresh_token: Annotated[str, Field(max_length=1000, pattern=_NO_CONTROLS)] | None = None
    client_id: Annotated[str, Field(max_length=256)] | None = None
    client_secret: Annotated[str, Field(max_length=256)] | None = None
    state: Annotated[str, Field(max_length=1024)] | None = None


class RefreshBody(BaseModel):
    """POST /oauth2/refresh."""

    model_config = ConfigDict(extra="forbid", strict=True)

    refresh_token: Annotated[str, Field(min_length=1, max_length=1000, pattern=_NO_CONTROLS)] | None = None


class RevokeBody(BaseModel):
    """POST /oauth2/revoke, RFC 7009 section 2.1."""

    model_config = ConfigDict(extra="forbid", strict=True)

    token: Annotated[str, Field(min_length=1, max_length=8192, pattern=_NO_CONTROLS)]
    token_type_hint: Annotated[Literal["access_token", "refresh_token"], BeforeValidator(_lower)] | None = None
    client_id: Annotated[str, Field(max_length=256)] | None = None
    client_secret: Annotated[str, Field(max_length=256)] | None = None


class IntrospectBody(BaseModel):
    """POST /oauth2/introspect, RFC 7662 section 2.1. A hint that is not known is of no use, and ignored."""

    model_config = ConfigDict(extra="forbid", strict=True)

    token: Annotated[str, Field(min_length=1, max_length=8192, pattern=_NO_CONTROLS)]
    token_type_hint: Annotated[str, Field(max_length=1000, pattern=_NO_CONTROLS)] | None = None


def parse(model: type[Body], body: HttpBody) -> Body:
    """The checked body. Raises ApiError 400 `invalid_request` that names the parameter at fault."""
    media_type = body.content_type.partition(";")[0].strip().lower()
    data = _form(body.data) if media_type == FORM else _json(body.data)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "body"
        raise invalid_request(f"{name}: {first['msg']}.") from error


def _json(data: bytes) -> dict[str, Any]:
    if not data.strip():
        return {}
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise invalid_request("The body is not valid JSON.") from error
    if not isinstance(value, dict):
        raise invalid_request("The body must be a JSON object.")
    return value


def _form(data: bytes) -> dict[str, Any]:
    try:
        pairs = parse_qsl(data.decode("ascii"), encoding="utf-8", errors="strict", max_num_fields=50)
    except ValueError as error:
        raise invalid_request("The body is not a valid form.") from error
    parameters = dict(pairs)
    if len(parameters) != len(pairs):
        raise invalid_request("A parameter is repeated.")
    return parameters
