"""Choosing between JSON and HTML from an Accept header (RFC 9110, section 12.5.1)."""

from typing import NamedTuple

_JSON_RANGES = ("application/json", "application/*", "*/*")


def prefers_html(accept: str) -> bool:
    """True when text/html is named and liked better than JSON.

    A wildcard speaks for JSON: this is an API first. At equal weight the one named first wins.
    """
    weights = _weights(accept)
    html = weights.get("text/html")
    if html is None or not html.weight:
        return False
    json = next((weights[name] for name in _JSON_RANGES if name in weights), None)
    return json is None or html.weight > json.weight or (html.weight == json.weight and html.position < json.position)


class _Range(NamedTuple):
    weight: float
    position: int


def _weights(accept: str) -> dict[str, _Range]:
    found: dict[str, _Range] = {}
    for position, part in enumerate(accept.split(",")):
        media_range, *parameters = (piece.strip().lower() for piece in part.split(";"))
        found.setdefault(media_range, _Range(_weight(parameters), position))
    return found


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0
