import pytest

from services.shared.errors import ApiError
from services.threat_model.resources.preconditions import ANY_VERSION, check, entity_tag, expected_version

FROM_PROXIES = ['W/"5"', '"5-gzip"', '"5;gzip"', '"5--gzip"', 'W/"5-gzip"', '"5-br"', '"5-zstd"', '"5-deflate"']


@pytest.mark.parametrize("header", ["5", '"5"', "  5 ", ' "5"', *FROM_PROXIES])
def test_every_form_of_a_version_is_read(header: str) -> None:
    assert expected_version(header, required=True) == 5


def test_a_star_expects_any_version() -> None:
    assert expected_version("*", required=True) == ANY_VERSION
    check(ANY_VERSION, 7)


NO_TAGS = ["5-gzip", '"-gzip"', '"5gzip"', '"5-gzip-gzip"', '"5---gzip"', '"5-lzma"', '"5-GZIP"x']


@pytest.mark.parametrize(
    "header", ["", "five", '"5', '5"', "W/5", "-1", '"5", "6"', "1" * 30, "**", "\u0665", *NO_TAGS]
)
def test_anything_else_is_refused(header: str) -> None:
    with pytest.raises(ApiError) as caught:
        expected_version(header, required=False)
    assert (caught.value.status, caught.value.code) == (400, "invalid_if_match")


def test_a_missing_header_is_refused_only_when_required() -> None:
    assert expected_version(None, required=False) is None
    check(None, 3)
    with pytest.raises(ApiError) as caught:
        expected_version(None, required=True)
    assert (caught.value.status, caught.value.code) == (428, "if_match_required")


def test_another_version_is_a_mismatch() -> None:
    check(3, 3)
    with pytest.raises(ApiError) as caught:
        check(2, 3)
    assert (caught.value.status, caught.value.code) == (409, "version_mismatch")


def test_the_entity_tag_is_the_quoted_version() -> None:
    assert entity_tag(12) == ("etag", '"12"')
