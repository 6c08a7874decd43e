from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.shared.errors import ApiError
from services.threat_model.resources import json_patch


def apply(document: dict[str, Any], *operations: dict[str, Any]) -> Any:
    return json_patch.apply(document, json_patch.parse(orjson.dumps(operations)))


def refusal(document: dict[str, Any], *operations: Any) -> str:
    with pytest.raises(ApiError) as caught:
        apply(document, *operations)
    assert caught.value.status == 400
    return caught.value.code


@pytest.mark.parametrize(
    ("document", "operation", "expected"),
    [
        ({"a": 1}, {"op": "add", "path": "/b", "value": 7}, {"a": 1, "b": 7}),
        ({"a": [1, 3]}, {"op": "add", "path": "/a/1", "value": 2}, {"a": [1, 2, 3]}),
        ({"a": [1]}, {"op": "add", "path": "/a/-", "value": [2]}, {"a": [1, [2]]}),
        ({"a": 1, "b": 2}, {"op": "remove", "path": "/b"}, {"a": 1}),
        ({"a": 1}, {"op": "replace", "path": "/a", "value": None}, {"a": None}),
        ({"a": {"x": 1}, "b": {}}, {"op": "move", "from": "/a/x", "path": "/b/y"}, {"a": {}, "b": {"y": 1}}),
        ({"a": {"x": 1}}, {"op": "copy", "from": "/a", "path": "/b"}, {"a": {"x": 1}, "b": {"x": 1}}),
        ({"a/b": {"m~n": 1}}, {"op": "replace", "path": "/a~1b/m~0n", "value": 2}, {"a/b": {"m~n": 2}}),
        ({"a": 1}, {"op": "add", "path": "/", "value": 2, "ignored": True}, {"a": 1, "": 2}),
        ({"a": {"b": [1, 2.0]}}, {"op": "test", "path": "/a", "value": {"b": [1.0, 2]}}, {"a": {"b": [1, 2.0]}}),
    ],
)
def test_rfc_6902_section_4(document: dict[str, Any], operation: dict[str, Any], expected: Any) -> None:
    assert apply(document, operation) == expected


def test_a_copy_is_independent_of_its_source() -> None:
    copied = {"op": "copy", "from": "/a", "path": "/b"}
    assert apply({"a": [1]}, copied, {"op": "add", "path": "/a/-", "value": 2}) == {"a": [1, 2], "b": [1]}


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/missing"},
        {"op": "replace", "path": "/missing", "value": 1},
        {"op": "add", "path": "/list/9", "value": 1},
        {"op": "add", "path": "/list/01", "value": 1},
        {"op": "remove", "path": "/list/-"},
        {"op": "add", "path": "/text/0", "value": 1},
        {"op": "add", "path": "/number/x", "value": 1},
        {"op": "move", "from": "/list", "path": "/list/0"},
        {"op": "copy", "from": "/missing", "path": "/b"},
        {"op": "test", "path": "/missing", "value": 1},
        {"op": "test", "path": "/true", "value": 1},
        {"op": "test", "path": "/number", "value": "1"},
        {"op": "replace", "path": "", "value": [1]},
        {"op": "remove", "path": ""},
    ],
)
def test_an_operation_that_does_not_fit_fails(operation: dict[str, Any]) -> None:
    assert refusal({"list": [1], "text": "ab", "number": 1, "true": True}, operation) == "patch_failed"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"[1]",
        b"not json",
        b'[{"path":"/a","value":1}]',
        b'[{"op":"merge","path":"/a","value":1}]',
        b'[{"op":["add"],"path":"/a","value":1}]',
        b'[{"op":"add","value":1}]',
        b'[{"op":"add","path":"a","value":1}]',
        b'[{"op":"add","path":"/a~2","value":1}]',
        b'[{"op":"add","path":"/a"}]',
        b'[{"op":"test","path":"/a"}]',
        b'[{"op":"move","path":"/a"}]',
        b'[{"op":"copy","path":"/a","from":"b"}]',
        orjson.dumps([{"op": "remove", "path": "/" + "a" * 512}]),
        orjson.dumps([{"op": "remove", "path": "/a"}] * 1001),
        b'[{"op":"add","path":"/a","value":"\\ud800"}]',
    ],
)
def test_what_is_no_patch_document_is_invalid(body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        json_patch.parse(body)
    assert (caught.value.status, caught.value.code) == (400, "invalid_patch")


def test_a_thousand_operations_are_accepted() -> None:
    assert len(json_patch.parse(orjson.dumps([{"op": "add", "path": "/a", "value": 1}] * 1000))) == 1000


def test_doubling_a_document_again_and_again_is_stopped() -> None:
    doubling = {"op": "copy", "from": "/a", "path": "/a/-"}
    assert refusal({"a": ["x" * 1000]}, *[doubling] * 1000) == "patch_failed"


def test_deep_nesting_is_no_crash() -> None:
    deep = b"[" * 900 + b"]" * 900
    patch = b'[{"op":"add","path":"/a","value":%b},{"op":"copy","from":"/a","path":"/b"}]' % deep
    with pytest.raises(ApiError):
        json_patch.apply({}, json_patch.parse(patch))


def test_members_that_a_patch_changes_and_those_it_reads() -> None:
    operations = json_patch.parse(
        orjson.dumps(
            [
                {"op": "test", "path": "/version", "value": 1},
                {"op": "move", "from": "/a~1b/0", "path": "/c/-"},
                {"op": "copy", "from": "/d", "path": "/e"},
            ]
        )
    )
    assert json_patch.touched_members(operations) == {"a/b", "c", "e"}
    assert json_patch.mentioned_members(operations) == {"version", "a/b", "c", "d", "e"}


@pytest.mark.parametrize("touched", [{"id"}, {""}, {"name", "unknown"}])
def test_other_members_than_the_allowed_are_refused(touched: set[str]) -> None:
    with pytest.raises(ApiError) as caught:
        json_patch.check_members(touched, {"name"})
    assert (caught.value.status, caught.value.code) == (400, "invalid_input")


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("ab0-~/"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "0", "-"]), inner, max_size=3)
    ),
    max_leaves=8,
)
_pointers = st.lists(st.sampled_from(["a", "b", "0", "1", "-", "~0", "~1", ""]), max_size=3).map(
    lambda parts: "".join("/" + part for part in parts)
)
_operations = st.fixed_dictionaries(
    {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]), "path": _pointers},
    optional={"from": _pointers, "value": _json},
)


@given(st.dictionaries(st.sampled_from(["a", "b"]), _json), st.lists(_operations, max_size=6))
def test_any_patch_gives_a_document_or_an_api_error(document: dict[str, Any], operations: list[Any]) -> None:
    try:
        patched = apply(document, *operations)
    except ApiError as error:
        assert (error.status, error.code in ("invalid_patch", "patch_failed")) == (400, True)  # noqa: PT017
    else:
        assert isinstance(patched, dict)
        orjson.dumps(patched)
