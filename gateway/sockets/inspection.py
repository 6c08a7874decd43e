"""What a client's message must be like before it goes to the room: its size and its characters.

Only the room knows messages, and answers them. Of one that is refused it is sent what it needs for that.
"""

import orjson

from services.shared import unicode_text
from services.shared.errors import ApiError


def inspect(text: bytes, max_bytes: int) -> tuple[bytes, str]:
    """The text as it goes to the room and why it is refused, empty if it is not.

    A text that is refused is reduced to its type and operation_id; nothing is left of one that is no
    JSON object, which nobody answers. The rules for characters are those of REST bodies.
    """
    if len(text) > max_bytes:
        return _identity(text), f"The message is larger than {max_bytes} bytes."
    try:
        return unicode_text.normalised_json(text), ""
    except ApiError as error:
        return _identity(text), error.message


def _identity(text: bytes) -> bytes:
    try:
        body = orjson.loads(text)
    except orjson.JSONDecodeError:
        return b""
    if not isinstance(body, dict):
        return b""
    named = {name: body.get(name) for name in ("message_type", "operation_id")}
    return orjson.dumps({name: value for name, value in named.items() if isinstance(value, str) and len(value) < 128})
