import pytest

from services.health.accept import prefers_html


@pytest.mark.parametrize(
    "accept",
    [
        "text/html",
        "text/html, */*;q=0.8",
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        "application/json;q=0.5, text/html",
        "text/html, application/json",
        "TEXT/HTML;Q=0.9, application/*;q=0.1",
    ],
)
def test_html_when_it_is_named_and_liked_better(accept: str) -> None:
    assert prefers_html(accept)


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        "application/json",
        "application/json, text/html",
        "application/json, text/html;q=0.9",
        "text/html;q=0.5, */*",
        "text/html;q=0",
        "text/html;q=nonsense",
        "text/plain",
        ";;,,=",
    ],
)
def test_json_otherwise(accept: str) -> None:
    assert not prefers_html(accept)
