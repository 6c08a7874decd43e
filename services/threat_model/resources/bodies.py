"""Reading request bodies, and the field types that several resources share.

Texts keep what the user typed: no character is refused but control characters, and nothing is
rewritten. Known enumerations are the exception: any spelling of a documented value is stored as
documented.
"""

import re
from collections.abc import Callable, Collection, Sequence
from copy import copy
from functools import cache
from typing import Annotated, Any, TypeVar

import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import PydanticCustomError

from services.shared.errors import ApiError, invalid_input


class Body(BaseModel):
    """A request body whose unknown members are ignored. Types are never coerced."""

    model_config = ConfigDict(strict=True, extra="ignore")

    def members(self) -> dict[str, Any]:
        """Every member as JSON data; large ones are not copied."""
        return {name: _plain(getattr(self, name)) for name in type(self).model_fields}

    @classmethod
    def blank(cls) -> dict[str, Any]:
        """What each optional member is when it has no value."""
        return {name: copy(value) for name, value in _defaults(cls).items()}

    def given(self) -> set[str]:
        """Members that the body names with a value other than null."""
        return {name for name in self.model_fields_set if getattr(self, name) is not None}


@cache
def _defaults(model: type[Body]) -> dict[str, Any]:
    """Made once: pydantic looks at the signature of a factory each time it calls it."""
    return {
        name: _plain(field.get_default(call_default_factory=True))
        for name, field in model.model_fields.items()
        if not field.is_required()
    }


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, list) and value and isinstance(value[0], BaseModel):
        return [item.model_dump() for item in value]
    return value


class ClosedBody(Body):
    """A request body or object in which an unknown member is an error."""

    model_config = ConfigDict(strict=True, extra="forbid")


AnyModel = TypeVar("AnyModel", bound=BaseModel)


def parse(data: bytes) -> Any:
    """The JSON value of a body. Raises ApiError 400 `invalid_input`."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        raise invalid_input("The body is not valid JSON.") from None


def parse_object(data: bytes) -> dict[str, Any]:
    """The JSON object of a body. Raises ApiError 400 `invalid_input`."""
    document = parse(data)
    if not isinstance(document, dict):
        raise invalid_input("The body must be a JSON object.")
    return document


def validate(model: type[AnyModel], document: Any) -> AnyModel:
    """The document as the model. Raises ApiError 400 `invalid_input` that names the fields at fault."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise _field_errors(error.errors(include_url=False, include_input=False, include_context=False)) from None


def validate_members(model: type[Body], document: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    """These members of the document, checked by the model; one that is absent has no value.

    Raises ApiError 400 `invalid_input` that names the fields at fault.
    """
    body = model.model_construct()
    problems: list[Any] = []
    for name in sorted(names):
        value = document[name] if name in document else _no_value(model, name)
        try:
            model.__pydantic_validator__.validate_assignment(body, name, value)
        except ValidationError as error:
            problems += error.errors(include_url=False, include_input=False, include_context=False)
    if problems:
        raise _field_errors(problems)
    return {name: _plain(getattr(body, name)) for name in names}


def _no_value(model: type[Body], name: str) -> Any:
    field = model.model_fields[name]
    return None if field.is_required() else field.get_default(call_default_factory=True)


def refuse(document: dict[str, Any], read_only: Collection[str]) -> None:
    """Raises ApiError 400 `invalid_input` when the body names a member that only the server sets."""
    for name in read_only:
        if name in document:
            raise invalid_input(f"{name}: is set by the server and cannot be sent.")


_NAMED_FIELDS = 10


def _field_errors(found: Sequence[Any]) -> ApiError:
    problems = [
        {"field": ".".join(str(part) for part in problem["loc"])[:200] or "body", "message": problem["msg"]}
        for problem in found[:_NAMED_FIELDS]
    ]
    return invalid_input(f"{problems[0]['field']}: {problems[0]['message']}", details={"context": {"fields": problems}})


def _empty_is_absent(value: str | None) -> str | None:
    return value or None


def default_for_null(default: Callable[[], Any]) -> BeforeValidator:
    """A null is the same as leaving the member out."""
    return BeforeValidator(lambda value: default() if value is None else value)


_LINE = r"^[^\x00-\x1f]*$"
_PARAGRAPHS = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f]*$"
_UUID = r"^$|^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"

Name = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=_LINE)]
Line256 = Annotated[str, StringConstraints(max_length=256, pattern=_LINE)]
Line128 = Annotated[
    Annotated[str, StringConstraints(max_length=128, pattern=_LINE)] | None, AfterValidator(_empty_is_absent)
]
Description = Annotated[
    Annotated[str, StringConstraints(max_length=2048, pattern=_PARAGRAPHS)] | None, AfterValidator(_empty_is_absent)
]
Paragraphs1024 = Annotated[
    Annotated[str, StringConstraints(max_length=1024, pattern=_PARAGRAPHS)] | None, AfterValidator(_empty_is_absent)
]
Uuid = Annotated[str, StringConstraints(to_lower=True, min_length=36, pattern=_UUID)]
UuidReference = Annotated[
    Annotated[str, StringConstraints(to_lower=True, pattern=_UUID)] | None, AfterValidator(_empty_is_absent)
]
Flag = Annotated[bool, default_for_null(lambda: True)]
"""A switch that is on unless it is switched off."""

_HOST_LABEL = r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_WEB_URI = rf"^$|^https?://{_HOST_LABEL}(\.{_HOST_LABEL})*(:[0-9]{{1,5}})?([/?#][^\s]*)?$"
WebUri = Annotated[
    Annotated[str, StringConstraints(strip_whitespace=True, max_length=1000, pattern=_WEB_URI)] | None,
    AfterValidator(_empty_is_absent),
]
"""An http or https URL. Nothing is resolved or fetched when it is written."""


MetadataValue = Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=_PARAGRAPHS)]


class MetadataEntry(ClosedBody):
    """A key and its value."""

    key: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,128}$")]
    value: MetadataValue


def sorted_unique(entries: list[MetadataEntry]) -> list[MetadataEntry]:
    """Validator: by key, no key twice."""
    if len({entry.key for entry in entries}) != len(entries):
        raise PydanticCustomError("duplicate_key", "A key may occur only once")
    return sorted(entries, key=lambda entry: entry.key)


Metadata = Annotated[list[MetadataEntry], Field(max_length=100), AfterValidator(sorted_unique)]


def unique(values: list[Any]) -> list[Any]:
    """Validator: no value twice."""
    if len(set(values)) != len(values):
        raise PydanticCustomError("duplicate_value", "A value may occur only once")
    return values


_WORD_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|\s+")


def documented_spelling(*values: str) -> Callable[[str | None], str | None]:
    """Turns any spelling of one of the values (`In Progress`, `inProgress`) into the documented one.

    Other texts pass unchanged, an empty one as None.
    """
    by_lower = {value.lower(): value for value in values}

    def fold(value: str | None) -> str | None:
        if not value:
            return None
        stripped = value.strip()
        lower = stripped.lower()
        return by_lower.get(lower) or by_lower.get(_WORD_BOUNDARY.sub("_", stripped).lower(), value)

    return fold
