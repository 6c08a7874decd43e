"""Which characters a JSON body may contain, and in which form it reaches the services.

Invisible and direction-changing characters let two different names look the same; stacks of
combining marks break every layout. Both are refused, raw or escaped, and the text is normalised to
NFC (Unicode Standard Annex 15), so that equal texts are equal strings everywhere behind this point.
"""

import re
import unicodedata

from services.shared.errors import ApiError, invalid_input, invalid_request

MOST_COMBINING_MARKS = 2

_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_ALLOWED_CONTROLS = frozenset("\t\n\r")
_REQUIRED_ESCAPES = {'"': '\\"', "\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}

_ZERO_WIDTH_NON_JOINER = "\u200c"
_ZERO_WIDTH_JOINER = "\u200d"
# Letters and signs of the scripts of India, Sri Lanka and Tibet, in which the non-joiner is orthography.
_INDIC = re.compile(r"[\u0900-\u0dff\u0f00-\u0fff]")
_EMOJI = re.compile(r"[\u00a9\u00ae\u203c-\u3299\ufe0f\U0001f000-\U0001faff]")


def _combining_marks() -> str:
    """A regular expression class of every combining mark."""
    ranges: list[list[int]] = []
    for point in (*range(0x300, 0x20000), *range(0xE0100, 0xE01F0)):
        if unicodedata.category(chr(point)).startswith("M"):
            if ranges and ranges[-1][1] == point - 1:
                ranges[-1][1] = point
            else:
                ranges.append([point, point])
    return "[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges) + "]"


# Controls but tab and line ends, zero-width space and joiners, marks and overrides of direction, byte
# order mark, fillers that look like nothing.
_SUSPECT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\u3164\ufeff\uffa0]")
_STACK = re.compile(_combining_marks() * (MOST_COMBINING_MARKS + 1))

# The two above are slow to search with. They are only shown the few places that this one finds.
_UNUSUAL = re.compile("[^\t\n\r -~\u00a0-\u02ff]+")


def normalised(body: bytes) -> bytes:
    """The JSON text in NFC without `\\u` escapes. Raises ApiError 400 for a character that is refused.

    Does not judge the JSON syntax. A body without anything to look at is returned as it is.
    """
    if body.isascii() and b"\x7f" not in body and not _has_telling_escape(body):
        return body
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise invalid_input("The body is not UTF-8.") from error
    if "\\" in text:
        text = _unescaped(text)
    text = unicodedata.normalize("NFC", text)
    for unusual in _UNUSUAL.finditer(text):
        _check(text, *unusual.span())
    return text.encode()


def _check(text: str, start: int, end: int) -> None:
    for suspect in _SUSPECT.finditer(text, start, end):
        if not _belongs(text, suspect.start()):
            raise _refused(suspect.group())
    if stack := _STACK.search(text, start, end):
        raise _refused(stack.group())


def _has_telling_escape(body: bytes) -> bool:
    """Whether an escape could stand for a control or a character beyond ASCII."""
    return b"\\" in body and (b"\\u" in body or b"\\b" in body or b"\\f" in body)


def _unescaped(text: str) -> str:
    """Replaces escapes of code points by the characters themselves, surrogate pairs included."""
    replaced = _ESCAPE.sub(_character, text)
    try:
        return replaced.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError as error:
        raise invalid_input("The body has half of a surrogate pair.") from error


def _character(match: re.Match[str]) -> str:
    digits, short = match.groups()
    if digits is None:
        if short in ("b", "f"):
            raise _refused("\b" if short == "b" else "\f")
        return match.group()
    character = chr(int(digits, 16))
    if character < " " and character not in _ALLOWED_CONTROLS:
        raise _refused(character)
    return _REQUIRED_ESCAPES.get(character, character)


def _belongs(text: str, position: int) -> bool:
    """Whether a joiner stands where a script or an emoji sequence needs it."""
    before, after = text[position - 1 : position], text[position + 1 : position + 2]
    if text[position] == _ZERO_WIDTH_NON_JOINER:
        return bool(_INDIC.match(before) and _INDIC.match(after))
    if text[position] == _ZERO_WIDTH_JOINER:
        return bool(_EMOJI.match(before) and _EMOJI.match(after))
    return False


def _refused(characters: str) -> ApiError:
    points = " ".join(f"U+{ord(character):04X}" for character in characters)
    return invalid_request(f"The body contains characters that are not allowed: {points}.")
