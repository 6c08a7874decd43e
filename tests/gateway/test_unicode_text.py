import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import unicode_text
from services.shared.errors import ApiError

REFUSED = {
    "zero-width space": "a\u200bb",
    "byte order mark": "\ufeffa",
    "left-to-right mark": "a\u200e",
    "right-to-left mark": "a\u200f",
    "override": "a\u202eb",
    "isolate": "\u2066a\u2069",
    "Hangul filler": "\u3164",
    "half-width Hangul filler": "\uffa0",
    "null": "a\0b",
    "backspace": "a\b",
    "form feed": "a\f",
    "escape": "\x1b[0m",
    "delete": "a\x7f",
    "C1 control": "a\x85",
    "three marks": "q\u0323\u0308\u0304x",
    "non-joiner in Latin": "a\u200cb",
    "joiner in Latin": "a\u200db",
    "joiner at the end": "\U0001f468\u200d",
    "non-joiner at the start": "\u200c\u0915",
}
ACCEPTED = {
    "plain": "A & B, it's a < b",
    "lines": "a\n\tb\r\n",
    "accents": "café naïve Ångström",
    "two marks": "q\u0323\u0307",
    "Vietnamese": "Việt Nam",
    "Devanagari with non-joiner": "क्\u200cष",
    "family emoji": "👨\u200d👩\u200d👧",
    "flag emoji": "🏳️\u200d🌈",
    "keycap": "1️⃣",
    "right-to-left script": "שלום مرحبا",
    "Chinese": "威脅模型",
}


def _json(text: str, *, escaped: bool) -> bytes:
    return json.dumps({"a": text}, ensure_ascii=escaped).encode("utf-8", "surrogatepass")


def _refusal(body: bytes) -> ApiError:
    with pytest.raises(ApiError) as refusal:
        unicode_text.normalised(body)
    assert refusal.value.status == 400
    return refusal.value


@pytest.mark.parametrize("escaped", [True, False])
@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_refuses_deceptive_characters_raw_and_escaped(text: str, escaped: bool) -> None:
    refusal = _refusal(_json(text, escaped=escaped))
    assert refusal.code == "invalid_request"
    assert refusal.message.isascii()
    assert "U+" in refusal.message


def test_refuses_them_in_names_too() -> None:
    assert _refusal('{"a\u200b":1}'.encode()).code == "invalid_request"


@pytest.mark.parametrize("escaped", [True, False])
@pytest.mark.parametrize("text", ACCEPTED.values(), ids=ACCEPTED)
def test_accepts_what_people_write_and_normalises_it(text: str, escaped: bool) -> None:
    body = unicode_text.normalised(_json(text, escaped=escaped))
    assert json.loads(body) == {"a": unicodedata.normalize("NFC", text)}
    assert b"\\u" not in body


@pytest.mark.parametrize("body", [b'{"a":"\\n\\t\\r\\"\\\\\\/"}', b"{}", b"not json", b'{"a":"' + b"x" * 1000 + b'"}'])
def test_leaves_plain_bodies_alone(body: bytes) -> None:
    assert unicode_text.normalised(body) is body


def test_an_escaped_backslash_before_u_is_not_an_escape() -> None:
    body = b'{"path":"C:\\\\users\\\\bin\\\\foo\\\\u200b"}'
    assert json.loads(unicode_text.normalised(body)) == {"path": "C:\\users\\bin\\foo\\u200b"}


def test_escapes_that_json_needs_stay_escapes() -> None:
    body = b'{"a":"\\u0022\\u005c\\u0009\\u000a\\u000d\\u0041"}'
    assert unicode_text.normalised(body) == b'{"a":"\\"\\\\\\t\\n\\rA"}'


def test_combines_surrogate_pairs_and_refuses_halves() -> None:
    assert unicode_text.normalised(b'"\\ud83d\\ude00"') == '"\U0001f600"'.encode()
    for half in (b'"\\ud83d"', b'"\\ude00x"', b'"\\ud83d\\u0041"'):
        assert _refusal(half).code == "invalid_input"


def test_refuses_bytes_that_are_not_utf8() -> None:
    assert _refusal(b'{"a":"\xff"}').code == "invalid_input"


@given(st.text(st.characters(exclude_categories=["Cs"])), st.booleans())
def test_keeps_the_text_or_refuses_it(text: str, escaped: bool) -> None:
    try:
        body = unicode_text.normalised(_json(text, escaped=escaped))
    except ApiError:
        return
    assert unicodedata.normalize("NFC", json.loads(body)["a"]) == unicodedata.normalize("NFC", text)
    assert unicode_text.normalised(body) == body
