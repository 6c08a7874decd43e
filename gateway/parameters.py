"""Filling request messages from path, query, headers and cookies by the declarations on their fields.

Everything that a declaration says is compiled into a parser a field when the gateway starts; a
request only runs the parsers of the parameters it has.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import parse_qsl

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from services.shared import rfc3339
from services.shared.declarations import InvalidDeclaration
from services.shared.errors import ApiError, invalid_id, invalid_input
from services.shared.operations import HttpOperation
from tmi.options.v1.options_pb2 import Format, Parameter

Parser = Callable[[str], Any]

LONGEST_PATH_PARAMETER_BYTES = 200
MOST_QUERY_FIELDS = 200

_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_INTEGER = re.compile(r"-?[0-9]{1,19}")
_DECIMAL = re.compile(r"-?[0-9]{1,64}(\.[0-9]{1,64})?([eE][+-]?[0-9]{1,3})?")
_INTEGER_BITS = {FieldDescriptor.TYPE_INT32: 31, FieldDescriptor.TYPE_INT64: 63}
_BOOLEANS = {"true": True, "false": False}


class Request(Protocol):
    """What a reader wants to know of an HTTP request."""

    @property
    def path_values(self) -> tuple[Any, ...]:
        """What stands in the places of the path's parameters, as `RequestReader.check_path` returned it."""

    @property
    def query_string(self) -> bytes:
        """What follows the question mark, percent-encoded."""

    @property
    def body(self) -> bytes:
        """The whole body."""

    def header(self, name: bytes) -> str | None:
        """The value of a header by its lower-case name."""

    def cookie(self, name: str) -> str | None:
        """The value of a cookie."""


@dataclass(frozen=True, slots=True)
class _Field:
    """A request field that does not come from the path."""

    name: str
    parse: Parser
    repeated: bool
    comma_separated: bool
    max_items: int

    def fill(self, message: Message, values: list[str]) -> None:
        if not self.repeated:
            setattr(message, self.name, self.parse(values[0]))
            return
        if self.comma_separated:
            values = [part for value in values for part in value.split(",") if part]
        if self.max_items and len(values) > self.max_items:
            raise invalid_input(f"{self.name} may be given at most {self.max_items} times.")
        getattr(message, self.name).extend([self.parse(value) for value in values])


class RequestReader:
    """Builds the request message of one operation."""

    def __init__(self, operation: HttpOperation) -> None:
        """Compiles the declarations. Raises InvalidDeclaration for a default or pattern that is none."""
        self._message_class: type[Message] = GetMessageClass(operation.method.input_type)
        self._body_field = operation.body_field
        self._path: list[tuple[str, Parser]] = []
        self._query: dict[str, _Field] = {}
        self._headers: list[tuple[bytes, _Field]] = []
        self._cookies: list[tuple[str, _Field]] = []
        self._required: list[str] = []
        defaults = self._message_class()
        in_path: dict[str, Parser] = {}
        for field, declaration in operation.parameters:
            name = field.name
            try:
                parse = _parser(field, declaration)
                compiled = _Field(name, parse, field.is_repeated, declaration.comma_separated, declaration.max_items)
                if declaration.default_value:
                    compiled.fill(defaults, [declaration.default_value])
            except (ApiError, re.error) as error:
                raise InvalidDeclaration(operation.method, f"the field {name}: {error}") from error
            if name in operation.path_parameters:
                in_path[name] = _identifier_parser(name, parse, dots=bool(declaration.pattern))
                continue
            if declaration.header:
                self._headers.append((declaration.header.lower().encode(), compiled))
            elif declaration.cookie:
                self._cookies.append((declaration.cookie, compiled))
            else:
                self._query[name] = compiled
            if declaration.required:
                self._required.append(name)
        self._path = [(name, in_path[name]) for name in operation.path_parameters]
        self._defaults = defaults.SerializeToString()

    def check_path(self, values: tuple[str, ...]) -> tuple[Any, ...]:
        """The path parameters in the order of the template, normalised. Raises ApiError 400 `invalid_id`."""
        return tuple(parse(value) for (_, parse), value in zip(self._path, values, strict=True))

    def read(self, request: Request) -> Message:
        """The request message. Raises ApiError 400."""
        message = self._message_class.FromString(self._defaults)
        for (name, _), value in zip(self._path, request.path_values, strict=True):
            setattr(message, name, value)
        query_string = request.query_string
        found = self._read_query(message, query_string) if query_string and self._query else ()
        for header, field in self._headers:
            # An empty one was sent all the same: an empty If-Match is no reason to overwrite.
            if (text := request.header(header)) is not None:
                field.fill(message, [text])
                found = (*found, field.name)
        for cookie, field in self._cookies:
            if text := request.cookie(cookie):
                field.fill(message, [text])
                found = (*found, field.name)
        for name in self._required:
            if name not in found:
                raise invalid_input(f"{name} is required.")
        if self._body_field:
            body = getattr(message, self._body_field)
            body.data = request.body
            body.content_type = request.header(b"content-type") or ""
        return message

    def _read_query(self, message: Message, query_string: bytes) -> tuple[str, ...]:
        values: dict[str, list[str]] = {}
        for name, value in _query_pairs(query_string):
            if name in self._query:
                values.setdefault(name, []).append(value)
        for name, given in values.items():
            field = self._query[name]
            if field.repeated:
                message.ClearField(name)
            field.fill(message, given)
        return tuple(values)


def _identifier_parser(name: str, parse: Parser, *, dots: bool) -> Parser:
    def parse_identifier(value: str) -> Any:
        try:
            return parse(path_parameter(name, value, dots=dots))
        except ApiError as error:
            raise invalid_id(error.message) from error

    return parse_identifier


def path_parameter(name: str, value: str, *, dots: bool = False) -> str:
    """The value of a path parameter. Raises ApiError 400 when no identifier can look like it.

    dots: a declared pattern judges whether it may have two in a row.
    """
    if not value or (".." in value and not dots) or "\0" in value or len(value.encode()) > LONGEST_PATH_PARAMETER_BYTES:
        raise invalid_id(f"{name} is not a valid identifier.")
    return value


def _query_pairs(query_string: bytes) -> list[tuple[str, str]]:
    """Names and values; a name without a value, or with an empty one, counts as not given."""
    try:
        return parse_qsl(query_string.decode(), errors="strict", max_num_fields=MOST_QUERY_FIELDS)
    except UnicodeDecodeError as error:
        raise invalid_input("The query is not UTF-8.") from error
    except ValueError as error:
        raise invalid_input(f"The query has more than {MOST_QUERY_FIELDS} fields.") from error


def _parser(field: FieldDescriptor, declaration: Parameter) -> Parser:
    name = field.name
    if field.type == FieldDescriptor.TYPE_STRING:
        return _string_parser(name, declaration)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return _boolean_parser(name)
    if field.type in _INTEGER_BITS:
        largest = 2 ** _INTEGER_BITS[field.type]
        return _number_parser(name, declaration, _INTEGER, int, "a whole number", -largest, largest - 1)
    return _number_parser(name, declaration, _DECIMAL, float, "a number", -math.inf, math.inf)


def _boolean_parser(name: str) -> Parser:
    def parse(value: str) -> bool:
        try:
            return _BOOLEANS[value]
        except KeyError:
            raise invalid_input(f"{name} must be true or false.") from None

    return parse


def _number_parser(
    name: str,
    declaration: Parameter,
    form: re.Pattern[str],
    convert: Callable[[str], float],
    kind: str,
    least: float,
    most: float,
) -> Parser:
    if declaration.HasField("minimum"):
        least = declaration.minimum
    if declaration.HasField("maximum"):
        most = declaration.maximum

    def parse(value: str) -> float:
        if not form.fullmatch(value):
            raise invalid_input(f"{name} must be {kind}.")
        number = convert(value)
        if not least <= number <= most or number in (math.inf, -math.inf):
            raise invalid_input(f"{name} is out of range." if math.isinf(most) else _range(name, least, most))
        return number

    return parse


def _range(name: str, least: float, most: float) -> str:
    return f"{name} must be between {least} and {most}."


def _string_parser(name: str, declaration: Parameter) -> Parser:
    if declaration.format == Format.FORMAT_UUID:
        return lambda value: uuid(name, value)
    if declaration.format == Format.FORMAT_DATE_TIME:
        return lambda value: _date_time(name, value)
    if declaration.values:
        return _choice_parser(name, list(declaration.values))
    max_length = declaration.max_length
    pattern = re.compile(declaration.pattern) if declaration.pattern else None

    def parse(value: str) -> str:
        if max_length and len(value) > max_length:
            raise invalid_input(f"{name} is longer than {max_length} characters.")
        if "\0" in value or (pattern and not pattern.fullmatch(value)):
            raise invalid_input(f"{name} has a character or form that is not allowed.")
        return value

    return parse


def uuid(name: str, value: str) -> str:
    """Canonical text of a UUID, RFC 9562 section 4; upper case is accepted."""
    if _UUID.fullmatch(value):
        return value
    lowered = value.lower()
    if _UUID.fullmatch(lowered):
        return lowered
    raise invalid_id(f"{name} is not a UUID.")


def _date_time(name: str, value: str) -> str:
    try:
        rfc3339.from_text(value)
    except (ValueError, OverflowError) as error:
        raise invalid_input(f"{name} is not a date and time as in 2026-01-31T12:00:00Z.") from error
    return value


def _choice_parser(name: str, choices: list[str]) -> Parser:
    spellings = {choice.lower(): choice for choice in choices}

    def parse(value: str) -> str:
        try:
            return spellings[value.lower()]
        except KeyError:
            raise invalid_input(f"{name} must be one of {', '.join(choices)}.") from None

    return parse
