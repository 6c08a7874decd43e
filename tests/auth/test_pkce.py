import pytest

from services.auth.oauth import pkce

# RFC 7636 appendix B
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_rfc7636_appendix_b_example() -> None:
    assert pkce.challenge_of(VERIFIER) == CHALLENGE
    assert pkce.proves(VERIFIER, CHALLENGE)


@pytest.mark.parametrize("verifier", [VERIFIER[:-1] + "l", "v" * 43])
def test_rfc7636_section_4_6_another_verifier_proves_nothing(verifier: str) -> None:
    assert not pkce.proves(verifier, CHALLENGE)


@pytest.mark.parametrize(
    ("verifier", "valid"),
    [
        ("v" * 42, False),
        ("v" * 43, True),
        ("~._-" * 32, True),
        ("v" * 129, False),
        ("v" * 42 + "+", False),
        ("v" * 42 + "é", False),
        ("v" * 43 + "\n", False),
    ],
)
def test_rfc7636_section_4_1_form_of_a_verifier(verifier: str, valid: bool) -> None:
    assert pkce.is_verifier(verifier) is valid


@pytest.mark.parametrize(
    ("challenge", "valid"),
    [(CHALLENGE, True), (CHALLENGE + "=", False), (CHALLENGE[:-1], False), ("a" * 129, False), ("", False)],
)
def test_rfc7636_section_4_2_form_of_a_challenge(challenge: str, valid: bool) -> None:
    assert pkce.is_challenge(challenge) is valid
