"""Which Unicode text is accepted, by classes of characters and the same at every door.

Invisible and direction-changing characters let two different names look the same and hide text
from its readers; stacks of marks break every layout. So controls, controls of direction and
Default_Ignorable_Code_Points are refused, except where a script's spelling or an emoji needs one:

- joiners in cursive scripts and after viramas (RFC 5892 appendix A.1 and A.2, Unicode Standard
  Annex 31 section 2.3), also where writers put a non-joiner that changes nothing, as between
  Persian letters that do not join anyway;
- joiners and tags inside emoji sequences, variation selectors after a base (Unicode Technical
  Standard 51), the vowel separator of Mongolian, the grapheme joiner between Hebrew points.

What pasting and typing leave behind and nobody sees or means (byte order mark, zero-width space,
soft hyphen, vertical tab, a non-joiner behind another one or at the end of a cursive word) is
dropped. The result is in NFC (Unicode Standard Annex 15), so that equal texts are equal strings
everywhere behind this point. All of it takes linear time.
"""

import re
import unicodedata
from typing import Any

import regex

from services.shared.errors import ApiError, invalid_input, invalid_request

MOST_DIACRITICS = 4
"""Marks that fit every script on one letter: what the phonetic alphabet and Vietnamese need, and no tower."""
MOST_MARKS = 10
"""Marks of any kind on one letter: pointed Hebrew has six, Burmese and Tibetan syllables up to eight."""
_LONGEST_RUN = 30
"""Marks in a row before composition, Unicode Standard Annex 15 section 13: ordering more takes quadratic time."""

_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{4}|.)", re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")
_ALLOWED_CONTROLS = frozenset("\t\n\r")
_REQUIRED_ESCAPES = {'"': '\\"', "\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
_VERTICAL_TAB = "\v"
_NON_JOINER = "\u200c"
_DROPPED = re.compile("[\ufeff\u200b\u00ad]+")


_RUN = regex.compile(rf"\p{{M}}{{{_LONGEST_RUN + 1}}}")
_STACK = regex.compile(
    rf"[\p{{M}}&&\p{{Script=Inherited}}]{{{MOST_DIACRITICS + 1}}}|\p{{M}}{{{MOST_MARKS + 1}}}", regex.V1
)
_SUSPECT = regex.compile(
    r"[[\p{Default_Ignorable_Code_Point}\p{Bidi_Control}\p{Cc}\p{Noncharacter_Code_Point}\uFFF9-\uFFFB]--[\t\n\r]]",
    regex.V1,
)
# Searching with this one is slow: it is only shown the places that the other one finds.
_CURSIVE = r"[\p{Joining_Type=D}\p{Joining_Type=L}\p{Joining_Type=R}]"
_TRANSPARENT = r"[\p{Joining_Type=T}--\u034F]{0,8}"
_IDLE_NON_JOINER = regex.compile(
    rf"(?<=\u200C)\u200C|(?<={_CURSIVE}{_TRANSPARENT})\u200C++(?!{_TRANSPARENT}{_CURSIVE})", regex.V1
)
_INDIC = r"[\u0900-\u0DFF\u0F00-\u0FFF]"
_BASE = r'[[\p{L}\p{N}\p{S}\p{P}]--[\p{Latin}\p{Greek}\p{Cyrillic}"\\]]'
_TAG = r"[\U000E0030-\U000E0039\U000E0061-\U000E007A]"
_EMOJI = r"\p{Extended_Pictographic}"
_BELONGING = regex.compile(
    "|".join(
        (
            # Non-joiner: after a virama, between cursive letters, between letters of India and Tibet.
            r"(?<=\p{Canonical_Combining_Class=9})\u200C",
            rf"(?<={_CURSIVE}{_TRANSPARENT})\u200C(?={_TRANSPARENT}{_CURSIVE})",
            rf"(?<={_INDIC})\u200C(?={_INDIC})",
            # Joiner: after a virama, before one (the Bengali ya-phala), where it shows at the end of a cursive word,
            # between emoji.
            r"(?<=\p{Canonical_Combining_Class=9})\u200D",
            rf"(?<={_INDIC})\u200D(?=\p{{Canonical_Combining_Class=9}})",
            rf"(?<=[\p{{Joining_Type=D}}\p{{Joining_Type=L}}]{_TRANSPARENT})\u200D(?!{_TRANSPARENT}{_CURSIVE})",
            rf"(?<={_EMOJI}[\uFE0F\U0001F3FB-\U0001F3FF]?)\u200D(?={_EMOJI})",
            # Variation selectors: one after a base. Letters of the commonest alphabets have no variants.
            rf"(?<={_BASE})[\uFE00-\uFE0F\u180B-\u180D\u180F]",
            r"(?<=\p{Han})[\U000E0100-\U000E01EF]",
            r"(?<=[\p{Mongolian}&&\p{L}])\u180E(?=[\p{Mongolian}&&\p{L}])",
            r"(?<=[\p{Hebrew}&&\p{M}])\u034F(?=[\p{Hebrew}&&\p{M}])",
            # The flags of parts of countries: a black flag, letters as tags, the tag that ends them.
            rf"(?<=\U0001F3F4{_TAG}{{0,5}}){_TAG}(?={_TAG}{{0,5}}\U000E007F)",
            rf"(?<=\U0001F3F4{_TAG}{{1,6}})\U000E007F",
        )
    ),
    regex.V1,
)


def normalised_text(text: str) -> str:
    """The text in NFC without what is dropped. Raises ApiError 400 for a character that is refused."""
    if text.isascii() and text.isprintable():
        return text
    if _SURROGATE.search(text):
        raise invalid_input("The text has half of a surrogate pair.")
    return _normalised(_DROPPED.sub("", text).replace(_VERTICAL_TAB, ""))


def normalised_value(value: Any) -> Any:
    """A parsed JSON value with every string and member name as `normalised_text` returns it.

    Raises ApiError 400, also when two names of an object become the same.
    """
    if isinstance(value, str):
        return normalised_text(value)
    if isinstance(value, list):
        return [normalised_value(element) for element in value]
    if isinstance(value, dict):
        members = {normalised_text(name): normalised_value(member) for name, member in value.items()}
        if len(members) != len(value):
            raise invalid_input("An object names the same member twice.")
        return members
    return value


def normalised_json(body: bytes) -> bytes:
    """The JSON text in NFC without `\\u` escapes and what is dropped. Raises ApiError 400 like `normalised_text`.

    Does not judge the JSON syntax. A body without anything to look at is returned as it is.
    """
    if body.isascii() and b"\x7f" not in body and not _has_telling_escape(body):
        return body
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise invalid_input("The body is not UTF-8.") from error
    # First of all, so that nothing dropped stands between a backslash and what it escapes.
    text = _DROPPED.sub("", text)
    if "\\" in text:
        text = _unescaped(text)
    return _normalised(text).encode()


def _normalised(text: str) -> str:
    if _NON_JOINER in text:
        text = _IDLE_NON_JOINER.sub("", text)
    if run := _RUN.search(text):
        raise _refused(run.group()[: MOST_MARKS + 1])
    text = unicodedata.normalize("NFC", text)
    for suspect in _SUSPECT.finditer(text):
        if not _BELONGING.match(text, suspect.start()):
            raise _refused(suspect.group())
    if stack := _STACK.search(text):
        raise _refused(stack.group())
    return text


def _has_telling_escape(body: bytes) -> bool:
    """Whether an escape could stand for a control or a character beyond ASCII."""
    return b"\\" in body and (b"\\u" in body or b"\\b" in body or b"\\f" in body)


def _unescaped(text: str) -> str:
    """Replaces escapes of code points by the characters themselves, surrogate pairs included."""
    characters: dict[str, str] = {}

    def character(match: re.Match[str]) -> str:
        escape = match.group()
        found = characters.get(escape)
        if found is None:
            found = characters[escape] = _character(escape)
        return found

    text = _ESCAPE.sub(character, text)
    if _SURROGATE.search(text) is None:
        return text
    try:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError as error:
        raise invalid_input("The body has half of a surrogate pair.") from error


def _character(escape: str) -> str:
    if len(escape) == 2:
        if escape in (r"\b", r"\f"):
            raise _refused("\b" if escape == r"\b" else "\f")
        return escape
    character = chr(int(escape[2:], 16))
    if character == _VERTICAL_TAB or _DROPPED.match(character):
        return ""
    if character < " " and character not in _ALLOWED_CONTROLS:
        raise _refused(character)
    return _REQUIRED_ESCAPES.get(character, character)


def _refused(characters: str) -> ApiError:
    points = " ".join(f"U+{ord(character):04X}" for character in characters)
    return invalid_request(f"The text contains characters that are not allowed: {points}.")
