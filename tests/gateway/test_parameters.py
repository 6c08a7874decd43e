from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import MethodDescriptor

from gateway.exchange import Exchange
from gateway.parameters import MOST_QUERY_FIELDS, RequestReader
from services.shared.access import Requirement
from services.shared.declarations import InvalidDeclaration
from services.shared.errors import ApiError
from services.shared.operations import HttpOperation
from tests.gateway.echo_services import OPERATIONS
from tmi.options.v1.options_pb2 import Operation, Parameter
from tmi.options.v1.options_pb2 import parameter as parameter_extension

UUID = "5d0f0c3e-0000-4000-8000-00000000000a"
BY_NAME = {operation.method.name: operation for operation in OPERATIONS}


def _read(
    name: str, query: str | bytes = b"", headers: dict[str, str] | None = None, path: tuple[str, ...] = ()
) -> Any:
    return _read_with(RequestReader(BY_NAME[name]), query, headers, path)


def _read_with(
    reader: RequestReader, query: str | bytes = b"", headers: dict[str, str] | None = None, path: tuple[str, ...] = ()
) -> Any:
    raw = [(key.lower().encode(), value.encode("latin-1")) for key, value in (headers or {}).items()]
    query_string = query.encode() if isinstance(query, str) else query
    exchange = Exchange({"method": "GET", "path": "/", "query_string": query_string, "headers": raw})
    exchange.path_values = reader.check_path(path)
    exchange.body = b"{}"
    return reader.read(exchange)


def _reader(field_type: int, declaration: Parameter, *, path: str = "/things", repeated: bool = False) -> RequestReader:
    """A reader of an operation with the one parameter `value`, declared here."""
    pool = descriptor_pool.DescriptorPool()
    options = descriptor_pb2.FieldOptions()
    options.Extensions[parameter_extension].CopyFrom(declaration)
    file = descriptor_pb2.FileDescriptorProto(name="t.proto", package="t", syntax="proto3")
    message = file.message_type.add(name="Request")
    message.field.add(
        name="value",
        number=1,
        type=field_type,
        label=descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
        if repeated
        else descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL,
        options=options,
    )
    service = file.service.add(name="Things")
    service.method.add(name="Get", input_type=".t.Request", output_type=".t.Request")
    pool.AddSerializedFile(file.SerializeToString())
    method: MethodDescriptor = pool.FindServiceByName("t.Things").methods_by_name["Get"]
    return RequestReader(HttpOperation(method, "get", "GET", path, "", Operation(), Requirement()))


FIELD = descriptor_pb2.FieldDescriptorProto


def _refusal(action: Any) -> tuple[int, str]:
    with pytest.raises(ApiError) as refusal:
        action()
    return refusal.value.status, refusal.value.code


def test_path_parameters_are_normalised_to_lower_case_uuids() -> None:
    message = _read("GetThreat", path=(UUID.upper(), UUID))
    assert (message.threat_model_id, message.threat_id) == (UUID, UUID)


@pytest.mark.parametrize(
    "value",
    ["", "a", UUID[:-1], UUID + "0", UUID.replace("-", ""), f"{{{UUID}}}", f"urn:uuid:{UUID}", UUID + "\n", "..", "\0"],
)
def test_a_path_parameter_that_is_no_uuid_is_an_invalid_id(value: str) -> None:
    assert _refusal(lambda: _read("GetThreatModel", path=(value,))) == (400, "invalid_id")


@pytest.mark.parametrize("value", ["", "a..b", "..", "a\0", "x" * 201, "é" * 101])
def test_a_free_path_parameter_still_has_to_look_like_an_identifier(value: str) -> None:
    reader = _reader(FIELD.TYPE_STRING, Parameter(), path="/things/{value}")
    assert _refusal(lambda: reader.check_path((value,))) == (400, "invalid_id")


@pytest.mark.parametrize("value", ["description", "union", "select", "javascript", "x" * 200, "é" * 100, "a<b", "a.b"])
def test_no_word_is_forbidden_in_a_path_parameter(value: str) -> None:
    reader = _reader(FIELD.TYPE_STRING, Parameter(), path="/things/{value}")
    assert reader.check_path((value,)) == (value,)


def test_defaults_fill_what_the_query_leaves_out() -> None:
    message = _read("ListThreatModels")
    assert (message.limit, message.offset, message.include_deleted) == (20, 0, False)
    assert not message.HasField("name")


def test_query_parameters_are_typed() -> None:
    message = _read(
        "ListThreats",
        "limit=5&offset=10&name=a+b%20c&severity=HIGH&severity=low&mitigated=false&score_gt=-1.5e1&include_deleted=true"
        f"&diagram_id={UUID.upper()}&created_after=2026-01-01T00:00:00Z",
        path=(UUID,),
    )
    assert (message.limit, message.offset, message.name) == (5, 10, "a b c")
    assert list(message.severity) == ["high", "low"]
    assert message.HasField("mitigated")
    assert message.mitigated is False
    assert (message.score_gt, message.include_deleted) == (-15.0, True)
    assert (message.diagram_id, message.created_after) == (UUID, "2026-01-01T00:00:00Z")


def test_unknown_and_empty_query_parameters_are_ignored() -> None:
    message = _read("ListThreatModels", "nonsense=1&limit=&owner=&name&status=&=x&;")
    assert message.limit == 20
    assert not message.HasField("owner")
    assert list(message.status) == []


def test_the_first_repetition_of_a_single_parameter_wins() -> None:
    assert _read("ListThreatModels", "limit=3&limit=4").limit == 3


def test_commas_separate_values_only_where_declared() -> None:
    assert list(_read("ListThreatModels", "status=a,b&status=c,,").status) == ["a", "b", "c"]
    assert list(_read("ListThreats", "priority=a,b", path=(UUID,)).priority) == ["a,b"]


@pytest.mark.parametrize(
    "query",
    [
        *("limit=0", "limit=101", "limit=-1", "limit=x", "limit=1.5", "limit=1_0", "limit=+1", "limit=%D9%A1"),
        *("offset=-1", "offset=1000000001", "offset=99999999999999999999"),
        *("include_deleted=1", "include_deleted=True", "include_deleted=yes"),
        *("created_after=2026-01-01", "created_after=x", "created_after=2026-01-01T00:00:00", "created_after=0"),
        *("name=" + "x" * 257, "name=a%00b", "name=%ff", b"name=\xff"),
        "status=" + ",".join("x" * 51),
        "&".join(f"f{number}=1" for number in range(MOST_QUERY_FIELDS + 1)),
    ],
)
def test_values_that_break_a_rule_are_invalid_input(query: str | bytes) -> None:
    assert _refusal(lambda: _read("ListThreatModels", query)) == (400, "invalid_input")


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("severity=extreme", "invalid_input"),
        ("&".join(["severity=low"] * 7), "invalid_input"),
        *((f"score_gt={value}", "invalid_input") for value in ("nan", "inf", "1e999", "1_0", "x", "0x1")),
        ("diagram_id=x", "invalid_id"),
    ],
)
def test_values_of_threat_filters_that_break_a_rule(query: str, code: str) -> None:
    assert _refusal(lambda: _read("ListThreats", query, path=(UUID,))) == (400, code)


def test_a_required_parameter_has_to_be_there() -> None:
    assert _read("IssueTicket", f"session_id={UUID}").session_id == UUID
    for query in ("", "session_id=", "other=1"):
        assert _refusal(lambda query=query: _read("IssueTicket", query)) == (400, "invalid_input")
    assert _refusal(lambda: _read("IssueTicket", "session_id=x")) == (400, "invalid_id")


def test_a_pattern_has_to_fit_the_whole_value() -> None:
    assert _read("Authorize", "idp=tmi").idp == "tmi"
    assert _refusal(lambda: _read("Authorize", "idp=tmi%20")) == (400, "invalid_input")


def test_header_and_cookie_parameters() -> None:
    message = _read("PatchThreat", headers={"If-Match": '"5"', "Content-Type": "a/b"}, path=(UUID, UUID))
    assert (message.if_match, message.body.content_type, message.body.data) == ('"5"', "a/b", b"{}")
    assert not _read("PatchThreat", path=(UUID, UUID)).HasField("if_match")
    cookies = {"Cookie": 'x=1; tmi_refresh_token="abc"; tmi_refresh_token=def; my_tmi_refresh_token=no'}
    assert _read("Refresh", headers=cookies).refresh_cookie == "abc"
    assert _read("Refresh", headers={"Cookie": "xtmi_refresh_token=no"}).refresh_cookie == ""


def test_integers_are_limited_by_their_type() -> None:
    small, large = _reader(FIELD.TYPE_INT32, Parameter()), _reader(FIELD.TYPE_INT64, Parameter())
    assert _read_with(small, f"value={2**31 - 1}").value == 2**31 - 1
    assert _refusal(lambda: _read_with(small, f"value={2**31}")) == (400, "invalid_input")
    assert _read_with(large, f"value={-(2**63)}").value == -(2**63)
    assert _refusal(lambda: _read_with(large, f"value={2**63}")) == (400, "invalid_input")


def test_a_given_value_replaces_the_default_of_a_repeated_parameter() -> None:
    reader = _reader(FIELD.TYPE_STRING, Parameter(default_value="a,b", comma_separated=True), repeated=True)
    assert list(_read_with(reader).value) == ["a", "b"]
    assert list(_read_with(reader, "value=c").value) == ["c"]


def test_an_empty_header_is_not_a_missing_one() -> None:
    assert _read("PatchThreat", headers={"If-Match": ""}, path=(UUID, UUID)).HasField("if_match")
    assert not _read("PatchThreat", path=(UUID, UUID)).HasField("if_match")


def test_a_required_header_has_to_be_there() -> None:
    reader = _reader(FIELD.TYPE_STRING, Parameter(header="X-Key", required=True))
    assert _read_with(reader, headers={"X-Key": "k"}).value == "k"
    assert _refusal(lambda: _read_with(reader)) == (400, "invalid_input")


def test_a_pattern_alone_decides_about_dots_in_a_path_parameter() -> None:
    reader = _reader(FIELD.TYPE_STRING, Parameter(pattern="[a-z.:-]{1,128}"), path="/things/{value}")
    assert reader.check_path(("a..b",)) == ("a..b",)
    for value in ("", "A", "a/b", "a\0", "a" * 129):
        assert _refusal(lambda value=value: reader.check_path((value,))) == (400, "invalid_id")


def test_a_path_parameter_of_another_type_is_converted() -> None:
    reader = _reader(FIELD.TYPE_INT32, Parameter(minimum=1), path="/things/{value}")
    assert _read_with(reader, path=("7",)).value == 7
    for value in ("0", "x", "7.5", "", "99999999999"):
        assert _refusal(lambda value=value: reader.check_path((value,))) == (400, "invalid_id")


@pytest.mark.parametrize(
    ("field_type", "declaration"),
    [
        (FIELD.TYPE_INT32, Parameter(minimum=1, default_value="0")),
        (FIELD.TYPE_BOOL, Parameter(default_value="yes")),
        (FIELD.TYPE_STRING, Parameter(values=["a"], default_value="b")),
        (FIELD.TYPE_STRING, Parameter(pattern="[a")),
    ],
)
def test_a_default_or_pattern_that_is_none_stops_the_start(field_type: int, declaration: Parameter) -> None:
    with pytest.raises(InvalidDeclaration, match=r"t\.Things\.Get cannot be used: the field value: "):
        _reader(field_type, declaration)
