import re
from base64 import urlsafe_b64encode

import pytest

from services.auth.providers import dev_provider
from services.auth.providers.registry import Providers
from services.shared import rfc3339
from services.shared.errors import ApiError
from services.shared.settings import BuildMode, Settings


@pytest.mark.parametrize(
    ("hint", "name"),
    [
        ("alice", "alice"),
        ("  Alice ", "alice"),
        ("a-b", "a-b"),
        ("a--b", "a--b"),
        ("x" * 20, "x" * 20),
        ("007", "007"),
    ],
)
def test_a_hint_is_trimmed_and_lower_cased(hint: str, name: str) -> None:
    assert dev_provider.normalise_hint(hint) == name


@pytest.mark.parametrize("hint", ["al", "x" * 21, "-alice", "alice-", "al ice", "a.b.c", "al_ice", "al+ce", "älice"])
def test_a_hint_outside_the_rule_is_refused(hint: str) -> None:
    with pytest.raises(dev_provider.InvalidHint):
        dev_provider.normalise_hint(hint)
    with pytest.raises(dev_provider.InvalidHint):
        dev_provider.new_code(0, hint)


def test_a_code_starts_with_the_documented_form() -> None:
    assert re.fullmatch(r"test_auth_code_1700000000\.[A-Za-z0-9_-]{22}", dev_provider.new_code(1700000000.9, ""))
    hinted = dev_provider.new_code(1700000000.9, "alice")
    assert hinted.startswith("test_auth_code_1700000000_hint_YWxpY2U=.")
    assert dev_provider.is_code(hinted)


def test_codes_of_the_same_second_differ() -> None:
    assert len({dev_provider.new_code(1, "alice") for _ in range(100)}) == 100


def test_a_hint_names_the_same_user_every_time() -> None:
    identity = dev_provider.exchange(dev_provider.new_code(1, "Mary-jane-w"))
    assert identity == dev_provider.exchange(dev_provider.new_code(2, "mary-jane-w"))
    assert identity.provider == "tmi"
    assert identity.provider_id == "mary-jane-w"
    assert identity.email == "mary-jane-w@tmi.local"
    assert identity.display_name == "Mary Jane W (TMI User)"
    assert identity.email_verified is False


def test_without_a_hint_every_code_is_another_user() -> None:
    first, second = (dev_provider.exchange("test_auth_code_1700000000") for _ in range(2))
    assert first != second
    assert re.fullmatch(r"testuser-\d{8}", first.provider_id)
    assert re.fullmatch(r"Test User \d{8}", first.display_name)


def test_a_code_built_by_a_client_is_accepted() -> None:
    code = "test_auth_code_1700000000_hint_" + urlsafe_b64encode(b"bob").decode()
    assert dev_provider.exchange(code).provider_id == "bob"


@pytest.mark.parametrize(
    "code",
    ["", "auth_code_1", "test_auth_code_", "test_auth_code_1_hint_", "test_auth_code_1 ", "test_auth_code_1_hint_*"],
)
def test_anything_else_is_no_code(code: str) -> None:
    assert not dev_provider.is_code(code)
    with pytest.raises(dev_provider.InvalidCode):
        dev_provider.exchange(code)


@pytest.mark.parametrize("hint", ["A", "AAAAA", "_____w=="])
def test_a_hint_that_is_not_base64_of_text_is_no_code(hint: str) -> None:
    with pytest.raises(dev_provider.InvalidCode):
        dev_provider.exchange(f"test_auth_code_1_hint_{hint}")


def known(idp: str, mode: BuildMode) -> str:
    return Providers(Settings(build_mode=mode), (), rfc3339.now).require_known(idp)


@pytest.mark.parametrize("mode", ["dev", "test"])
def test_idp_defaults_to_it_where_it_exists(mode: BuildMode) -> None:
    assert known("", mode) == "tmi"


@pytest.mark.parametrize(
    ("mode", "idp", "code"),
    [
        ("production", "tmi", "invalid_provider"),
        ("production", "", "invalid_request"),
        ("dev", "google", "invalid_provider"),
    ],
)
def test_an_unknown_provider_is_refused(mode: BuildMode, idp: str, code: str) -> None:
    with pytest.raises(ApiError) as caught:
        known(idp, mode)
    assert (caught.value.status, caught.value.code) == (400, code)
