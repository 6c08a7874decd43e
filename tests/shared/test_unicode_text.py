"""Unicode by class: what people write is accepted, what hides or deceives refused, what pasting leaves dropped."""

import json
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.shared import unicode_text
from services.shared.errors import ApiError

REFUSED = {
    "left-to-right mark": "a\u200e",
    "right-to-left mark": "a\u200f",
    "Arabic letter mark": "\u0628\u061c",
    "override": "a\u202eb",
    "isolate": "\u2066a\u2069",
    "word joiner": "a\u2060b",
    "invisible times": "2\u2062x",
    "inhibit symmetric swapping": "a\u206a",
    "Hangul filler": "\u3164",
    "half-width Hangul filler": "\uffa0",
    "Hangul choseong filler": "\u115f\u1161",
    "Khmer inherent vowel": "\u1780\u17b4",
    "musical begin beam": "a\U0001d173",
    "shorthand overlap": "a\U0001bca0",
    "reserved default ignorable": "a\U000e0fff",
    "interlinear annotation": "a\ufff9b",
    "noncharacter": "a\uffff",
    "null": "a\0b",
    "backspace": "a\b",
    "form feed": "a\f",
    "escape": "\x1b[0m",
    "delete": "a\x7f",
    "C1 control": "a\x85",
    "five diacritics": "q" + "\u0323\u0308\u0304\u0301\u0307" + "x",
    "a tower": "a" + "\u0316\u0301" * 5000,
    "eleven marks of a script": "\u0e01" + "\u0e31" * 11,
    "non-joiner in Latin": "a\u200cb",
    "two non-joiners in Latin": "a\u200c\u200cb",
    "non-joiner at the start": "\u200c\u0915",
    "non-joiner after a space": "\u06cc \u200c\u062e",
    "joiner in Latin": "a\u200db",
    "joiner between Arabic letters": "\u0628\u200d\u0628",
    "joiner at the end of an emoji": "\U0001f468\u200d",
    "joiner between emoji and letter": "\U0001f468\u200da",
    "grapheme joiner in Latin": "a\u034fb",
    "tags behind a letter": "a\U000e0061\U000e007f",
    "tags behind a smile": "\U0001f600\U000e0061\U000e0062\U000e007f",
    "tags without an end": "\U0001f3f4\U000e0067\U000e0062",
    "an end without tags": "\U0001f3f4\U000e007f",
    "too many tags": "\U0001f3f4" + "\U000e0061" * 30 + "\U000e007f",
    "language tag": "\U000e0001a",
    "selector without base": "\ufe0f",
    "selector behind a space": "a \ufe0f",
    "two selectors": "\u2764\ufe0f\ufe0f",
    "selector behind Latin": "a\ufe01",
    "ideographic selector behind a digit": "1\U000e0100",
    "vowel separator in Latin": "a\u180eb",
}
ACCEPTED = {
    "plain": "A & B, it's a < b",
    "lines": "a\n\tb\r\n",
    "accents": "caf\u00e9 nai\u0308ve A\u030angstro\u0308m",
    "phonetic": "\u0254\u0303\u0330\u0301 q\u0323\u0308\u0304",
    "Vietnamese": "Vi\u00ea\u0323t Nam, e\u0302\u0301",
    "Persian": "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    "Persian, non-joiner behind a letter that does not join": "\u06a9\u0627\u0631\u200c\u0647\u0627",
    "Persian, non-joiner behind a vowel sign": "\u0645\u06cc\u0650\u200c\u062e",
    "Persian, joiner at the end": "\u06f1\u06f4\u06f0\u06f2 \u0647\u200d.\u0634",
    "Arabic with vowels": "\u0627\u0644\u0644\u0651\u064e\u0670\u0647\u0650\u06d6 \u0628\u0650\u0633\u0652\u0645\u0650",
    "Hebrew with points and accents": "\u05d1\u05bc\u05b0\u05e8\u05b5\u05d0\u05e9\u05c1\u05b4\u0596\u05d9\u05ea",
    "Hebrew with a grapheme joiner": "\u05dc\u05b7\u034f\u05b4\u05dd",
    "Devanagari with non-joiner": "\u0915\u094d\u200c\u0937",
    "Nepali with joiner": "\u0917\u0930\u094d\u200d\u092f\u094b",
    "Bengali ya-phala": "\u09b0\u200d\u09cd\u09af\u09be\u09ac",
    "Sinhala": "\u0dc1\u0dca\u200d\u0dbb\u0dd3",
    "Malayalam chillu": "\u0d28\u0d4d\u200d",
    "Kannada": "\u0cb0\u0ccd\u200c\u0c95",
    "Thai": "\u0e17\u0e35\u0e48\u0e19\u0e35\u0e48 \u0e19\u0e49\u0e33",
    "Lao": "\u0e81\u0eb4\u0ec8\u0e99",
    "Khmer": "\u179f\u17d2\u178f\u17d2\u179a\u17b8",
    "Burmese": "\u1000\u103b\u103d\u1014\u103a\u102f\u1015\u103a",
    "Tibetan": "\u0f66\u0f92\u0fb2\u0f74\u0f56\u0f66",
    "Mongolian": "\u1820\u182f\u1832\u1820\u180e\u1820 \u1828\u180b",
    "Tamil": "\u0bb8\u0bcd\u0bb0\u0bc0",
    "Chinese": "\u5a01\u8105\u6a21\u578b",
    "Japanese with a variant": "\u845b\U000e0100\u57ce",
    "Korean, decomposed": "\u1112\u1161\u11ab",
    "family": "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "astronaut": "\U0001f469\U0001f3fd\u200d\U0001f680",
    "rainbow flag": "\U0001f3f3\ufe0f\u200d\U0001f308",
    "burning heart": "\u2764\ufe0f\u200d\U0001f525",
    "England": "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "keycap": "1\ufe0f\u20e3",
    "mathematical variant": "\u2229\ufe00",
}
DROPPED = {
    "byte order mark": ("\ufeffname", "name"),
    "zero-width space": ("a\u200bb", "ab"),
    "soft hyphen": ("co\u00adoperate", "cooperate"),
    "vertical tab": ("a\vb", "ab"),
    "between a letter and its mark": ("e\u200b\u0301", "\u00e9"),
    "non-joiner at the end of a word": ("\u0645\u06cc\u200c \u062e", "\u0645\u06cc \u062e"),
    "non-joiner behind another": ("\u0645\u06cc\u200c\u200c\u200c\u062e", "\u0645\u06cc\u200c\u062e"),
    "non-joiner between languages": ("\u0628\u200cb", "\u0628b"),
    "non-joiner between a letter and its mark": ("\u0627\u200c\u0653", "\u0622"),
    "all of it": ("\ufeff\u200b\u00ad\v", ""),
}


def _json(text: str, *, escaped: bool) -> bytes:
    return json.dumps({"a": text}, ensure_ascii=escaped).encode("utf-8", "surrogatepass")


def _raw(text: str) -> str:
    document: dict[str, str] = json.loads(unicode_text.normalised_json(_json(text, escaped=False)))
    return document["a"]


def _escaped(text: str) -> str:
    document: dict[str, str] = json.loads(unicode_text.normalised_json(_json(text, escaped=True)))
    return document["a"]


def _member(text: str) -> str:
    value = unicode_text.normalised_value({"a": [1, None, {text: text}]})
    ((name, member),) = value["a"][2].items()
    assert name == member
    assert value["a"][:2] == [1, None]
    return str(name)


DOORS = pytest.mark.parametrize("door", [unicode_text.normalised_text, _member, _raw, _escaped])
Door = Callable[[str], str]


def _refusal(door: Callable[..., object], given: object) -> ApiError:
    with pytest.raises(ApiError) as refusal:
        door(given)
    assert refusal.value.status == 400
    return refusal.value


@DOORS
@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_refuses_what_hides_or_deceives_at_every_door(text: str, door: Door) -> None:
    refusal = _refusal(door, text)
    assert refusal.code == "invalid_request"
    assert refusal.message.isascii()
    assert "U+" in refusal.message
    assert len(refusal.message) < 200


@DOORS
@pytest.mark.parametrize("text", ACCEPTED.values(), ids=ACCEPTED)
def test_accepts_what_people_write_and_normalises_it(text: str, door: Door) -> None:
    assert door(text) == unicodedata.normalize("NFC", text)
    assert door(f"x {text}, {text}") == unicodedata.normalize("NFC", f"x {text}, {text}")


@DOORS
@pytest.mark.parametrize(("text", "left"), DROPPED.values(), ids=DROPPED)
def test_drops_what_pasting_leaves_behind(text: str, left: str, door: Door) -> None:
    if door is _raw:
        text = text.replace("\v", "")  # which JSON only has as an escape
    assert door(text) == left


def test_text_that_needs_escapes_has_none_afterwards() -> None:
    body = unicode_text.normalised_json(_json("\u5a01\U0001f600", escaped=True))
    assert body == '{"a": "\u5a01\U0001f600"}'.encode()


@pytest.mark.parametrize("body", [b'{"a":"\\n\\t\\r\\"\\\\\\/"}', b"{}", b"not json", b'{"a":"' + b"x" * 1000 + b'"}'])
def test_leaves_plain_bodies_alone(body: bytes) -> None:
    assert unicode_text.normalised_json(body) is body


def test_an_escaped_backslash_before_u_is_not_an_escape() -> None:
    body = b'{"path":"C:\\\\users\\\\bin\\\\foo\\\\u200b"}'
    assert json.loads(unicode_text.normalised_json(body)) == {"path": "C:\\users\\bin\\foo\\u200b"}


@pytest.mark.parametrize("between", ["\u200b", "\ufeff\u200b", "\u00ad"])
def test_nothing_dropped_hides_an_escape(between: str) -> None:
    _refusal(unicode_text.normalised_json, b'{"a":"\\' + between.encode() + b'u202e"}')
    _refusal(unicode_text.normalised_json, b'{"a":"\\u20' + between.encode() + b'2e"}')


def test_escapes_that_json_needs_stay_escapes() -> None:
    body = b'{"a":"\\u0022\\u005c\\u0009\\u000a\\u000d\\u0041"}'
    assert unicode_text.normalised_json(body) == b'{"a":"\\"\\\\\\t\\n\\rA"}'


def test_combines_surrogate_pairs_and_refuses_halves() -> None:
    assert unicode_text.normalised_json(b'"\\ud83d\\ude00"') == '"\U0001f600"'.encode()
    for half in (b'"\\ud83d"', b'"\\ude00x"', b'"\\ud83d\\u0041"'):
        assert _refusal(unicode_text.normalised_json, half).code == "invalid_input"
    assert _refusal(unicode_text.normalised_text, "\ud83d").code == "invalid_input"


def test_refuses_bytes_that_are_not_utf8() -> None:
    assert _refusal(unicode_text.normalised_json, b'{"a":"\xff"}').code == "invalid_input"


def test_names_that_become_the_same_are_refused() -> None:
    value = {"caf\u00e9": 1, "cafe\u0301": 2}
    assert _refusal(unicode_text.normalised_value, value).code == "invalid_input"


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
TELLING = st.text(
    st.sampled_from(
        'aa\u0628\u0915\u094d\u05d1\u05b0\u1820 "\\\u0301\u0323\u200b\u200c\u200d\ufe0f\u00ad\ufeff\u034f\u2764\u845b'
        "\U0001f3f4\U000e0061\U000e007f"
    )
)


@given(st.one_of(ANY_TEXT, TELLING))
def test_every_door_says_the_same(text: str) -> None:
    text = text.replace("\v", "")
    outcomes: list[str | None] = []
    for door in (unicode_text.normalised_text, _member, _raw, _escaped):
        try:
            outcomes.append(door(text))
        except ApiError:
            outcomes.append(None)
    assert len(set(outcomes)) == 1


@given(st.one_of(ANY_TEXT, TELLING))
def test_what_is_accepted_stays_as_it_is(text: str) -> None:
    try:
        once = unicode_text.normalised_text(text)
    except ApiError:
        return
    assert unicode_text.normalised_text(once) == once
    kept = "".join(character for character in text if character not in "\ufeff\u200b\u00ad\v\u200c")
    if "\u200c" not in text:
        assert once == unicodedata.normalize("NFC", kept)
    assert unicodedata.normalize("NFC", once.replace("\u200c", "")) == unicodedata.normalize("NFC", kept)
