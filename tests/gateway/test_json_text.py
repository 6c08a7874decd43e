import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import json_text
from services.shared import unicode_text
from services.shared.errors import ApiError

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cf", "Mn", "Mc", "Me", "Cs")), max_size=8) | (
    st.sampled_from(['":', ":", '\\"', "a:b", '"', "\\", "{", "["])
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


def _refused(body: bytes) -> str:
    with pytest.raises(ApiError) as refusal:
        json_text.check(body)
    assert (refusal.value.status, refusal.value.code) == (400, "invalid_input")
    return refusal.value.message


@given(VALUES, st.booleans(), st.sampled_from([None, 2]))
def test_accepts_everything_that_a_json_writer_writes(value: object, ascii_only: bool, indent: int | None) -> None:
    json_text.check(json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode())


@given(st.dictionaries(TEXTS, VALUES, min_size=1, max_size=4), VALUES, st.booleans(), st.data())
def test_refuses_every_duplicate_name(
    members: dict[str, object], other: object, ascii_only: bool, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(members)))
    written = [f"{json.dumps(key, ensure_ascii=ascii_only)}:{json.dumps(value)}" for key, value in members.items()]
    written.insert(data.draw(st.integers(0, len(written))), f"{json.dumps(name)} : {json.dumps(other)}")
    document = "{" + ",".join(written) + "}"
    for _ in range(data.draw(st.integers(0, 3))):
        document = f'[1,{{"outer":{document}}}]'

    with pytest.raises(ApiError):
        json_text.check(unicode_text.normalised_json(document.encode()))


@given(VALUES, st.text(max_size=5))
def test_what_passes_is_one_json_text(value: object, tail: str) -> None:
    body = orjson.dumps(value, default=str) if not _has_huge(value) else json.dumps(value).encode()
    body += tail.encode("utf-8", "surrogatepass")
    try:
        json_text.check(body)
    except ApiError:
        return
    json.loads(body)


def _has_huge(value: object) -> bool:
    if isinstance(value, dict):
        return any(_has_huge(item) for item in value.values())
    if isinstance(value, list):
        return any(_has_huge(item) for item in value)
    return isinstance(value, int) and abs(value) >= 2**63


@pytest.mark.parametrize("body", ["{", '{"a":}', "[1,]", '{"a":1,}', "nul", "'a'", '{"a":1}x', "{}{}", "[1] [2]"])
def test_refuses_what_is_not_json(body: str) -> None:
    assert "not JSON" in _refused(body.encode())


@pytest.mark.parametrize(
    "body", ["NaN", "[Infinity]", '{"a":-Infinity}', "[1e", "1e400", "01", "+1", ".5", '"\t"', '"\x01"']
)
def test_refuses_what_lenient_parsers_take(body: str) -> None:
    _refused(body.encode())


def test_refuses_blanks_and_bytes_that_are_not_utf8() -> None:
    assert _refused(b"  \n") == "The body is empty."
    _refused(b'{"a":"\xff"}')


def test_names_the_duplicate() -> None:
    assert "'b'" in _refused(b'{"a":1,"b":[{"c":1}],"b":2}')
    assert "'c'" in _refused(b'{"a":[{"c":1,"d":"c:","c":2}]}')


def test_a_duplicate_hidden_by_an_escape_is_found() -> None:
    _refused(unicode_text.normalised_json(b'{"a":1,"\\u0061":"\\u003a"}'))


def test_the_limit_of_nesting_is_exact() -> None:
    deepest = json_text.DEEPEST_NESTING
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        json_text.check(opening * deepest + b"1" + closing * deepest)
        assert "nested deeper" in _refused(opening * (deepest + 1) + b"1" + closing * (deepest + 1))
    _refused(b"[" * 100_000)
    json_text.check(b"[" * deepest + b"]" * deepest)


@pytest.mark.parametrize("body", ["1", '"a:b"', "null", "true", "-0", "1e40", "123456789012345678901234567890"])
def test_scalars_and_large_numbers_are_json(body: str) -> None:
    json_text.check(body.encode())
