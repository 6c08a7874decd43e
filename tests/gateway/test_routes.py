import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routes import PathTrie, Routes
from services.shared.declarations import InvalidDeclaration
from services.shared.errors import ApiError
from tests.gateway.echo_services import OPERATIONS

LITERALS = st.sampled_from(["a", "b", "threats", "me", ".well-known", "0"])
TEMPLATES = st.lists(st.one_of(LITERALS, st.just("{x}")), min_size=1, max_size=5).map(
    lambda segments: "/" + "/".join(segments)
)
PATHS = st.lists(st.one_of(LITERALS, st.sampled_from(["c", "", "{x}"])), min_size=1, max_size=5)


def _fits(template: str, segments: list[str]) -> bool:
    parts = template.split("/")[1:]
    return len(parts) == len(segments) and all(
        part == "{x}" or part == segment for part, segment in zip(parts, segments, strict=True)
    )


def _preference(template: str) -> list[bool]:
    return [part == "{x}" for part in template.split("/")[1:]]


@given(st.lists(TEMPLATES, unique=True), PATHS)
def test_finds_what_fits_with_literals_first_from_the_left(templates: list[str], segments: list[str]) -> None:
    trie: PathTrie[str] = PathTrie()
    for template in templates:
        trie.setdefault(template, template)
    fitting = sorted((template for template in templates if _fits(template, segments)), key=_preference)

    found = trie.find(segments)

    if not fitting:
        assert found is None
        return
    assert found is not None
    template, values = found
    assert template == fitting[0]
    parts = template.split("/")[1:]
    assert values == tuple(segment for part, segment in zip(parts, segments, strict=True) if part == "{x}")


def test_backtracks_from_a_literal_that_leads_nowhere() -> None:
    trie: PathTrie[str] = PathTrie()
    trie.setdefault("/a/b", "literal")
    trie.setdefault("/{x}/c", "parameter")

    assert trie.find(["a", "b"]) == ("literal", ())
    assert trie.find(["a", "c"]) == ("parameter", ("a",))
    assert trie.find(["a"]) is None


def test_setdefault_keeps_the_first_value() -> None:
    trie: PathTrie[str] = PathTrie()

    assert trie.setdefault("/a/{x}", "first") == "first"
    assert trie.setdefault("/a/{y}", "second") == "first"


def test_every_declared_operation_has_its_route() -> None:
    routes = Routes(OPERATIONS)

    for operation in OPERATIONS:
        found = routes.find(operation.path.replace("{", "").replace("}", "").encode())
        assert found is not None
        assert found[0].operations[operation.verb].declaration is operation


def test_two_operations_of_one_verb_and_path_are_refused() -> None:
    with pytest.raises(InvalidDeclaration, match="declared twice"):
        Routes([OPERATIONS[0], OPERATIONS[0]])


def test_an_encoded_slash_does_not_separate_segments() -> None:
    routes = Routes(OPERATIONS)

    found = routes.find(b"/threat_models/a%2Fthreats")
    assert found is not None
    assert found[1] == ("a/threats",)
    assert routes.find(b"/%6De") is not None


@pytest.mark.parametrize("path", [b"/threat_models/%ff", b"/threat_models/\xff"])
def test_a_path_that_is_not_utf8_is_refused(path: bytes) -> None:
    with pytest.raises(ApiError) as refusal:
        Routes(OPERATIONS).find(path)
    assert (refusal.value.status, refusal.value.code) == (400, "invalid_id")
