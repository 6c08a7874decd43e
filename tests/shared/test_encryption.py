from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.shared.encryption import Encryption, UnreadableSecret
from services.shared.settings import Settings
from services.shared.startup import CannotStart

OLD, NEW, THIRD = (bytes(range(start, start + 32)) for start in (0, 50, 100))


@given(secret=st.text(), owner=st.text())
def test_what_was_encrypted_is_read_again(secret: str, owner: str) -> None:
    encryption = Encryption(NEW)
    secret, owner = (text.encode("utf-8", "ignore").decode() for text in (secret, owner))
    stored = encryption.encrypt(secret, owner=owner)
    assert stored.startswith("ENC:v1:")
    assert encryption.decrypt(stored, owner=owner) == secret
    assert encryption.encrypt(secret, owner=owner) != stored


def test_a_secret_is_of_no_use_to_another_owner() -> None:
    stored = Encryption(NEW).encrypt("secret", owner="alice")
    with pytest.raises(UnreadableSecret, match="damaged"):
        Encryption(NEW).decrypt(stored, owner="bob")


def test_what_was_changed_is_not_read() -> None:
    stored = Encryption(NEW).encrypt("secret", owner="alice")
    begin = len("ENC:v1:") + 17
    for position in range(begin, len(stored)):
        changed = stored[:position] + ("A" if stored[position] != "A" else "B") + stored[position + 1 :]
        with pytest.raises(UnreadableSecret):
            Encryption(NEW).decrypt(changed, owner="alice")
    for text in (stored[:-4], stored[:begin], "ENC:v1:", f"{stored}é", f"{stored} "):
        with pytest.raises(UnreadableSecret):
            Encryption(NEW).decrypt(text, owner="alice")


def test_the_key_before_this_one_reads_and_does_not_write() -> None:
    stored = Encryption(OLD).encrypt("secret", owner="alice")
    rotating = Encryption(NEW, OLD)
    assert rotating.decrypt(stored, owner="alice") == "secret"
    assert not rotating.is_current(stored)
    anew = rotating.encrypt("secret", owner="alice")
    assert rotating.is_current(anew)
    assert Encryption(NEW).decrypt(anew, owner="alice") == "secret"


@pytest.mark.parametrize(("encryption", "said"), [(Encryption(THIRD), "another key"), (Encryption(None), "is not set")])
def test_a_key_that_is_missing_is_asked_for(encryption: Encryption, said: str) -> None:
    stored = Encryption(NEW).encrypt("secret", owner="alice")
    with pytest.raises(UnreadableSecret, match=f"The secret of alice is encrypted .*{said}"):
        encryption.decrypt(stored, owner="alice")


def test_without_a_key_secrets_are_stored_as_they_are_until_there_is_one() -> None:
    without, with_key = Encryption(None), Encryption(NEW)
    stored = without.encrypt("secret", owner="alice")
    assert stored == "secret"
    assert with_key.decrypt(stored, owner="alice") == "secret"
    assert (without.has_key, with_key.has_key) == (False, True)
    assert (without.is_current(stored), with_key.is_current(stored)) == (True, False)
    assert not without.is_current(with_key.encrypt("secret", owner="alice"))


def of(**settings: Any) -> Encryption:
    return Encryption.of(Settings(**{"build_mode": "dev", **settings}))


def test_keys_come_from_the_environment_or_from_files(tmp_path: Path) -> None:
    for name, key in (("new", NEW), ("old", OLD)):
        (tmp_path / name).write_text(f"{key.hex().upper()}\n")
    by_value = of(secret_settings_encryption_key=NEW.hex(), secret_settings_encryption_previous_key=OLD.hex())
    by_file = of(
        secret_settings_encryption_key_file=str(tmp_path / "new"),
        secret_settings_encryption_previous_key_file=str(tmp_path / "old"),
    )
    for one, other in ((by_value, by_file), (by_file, by_value)):
        stored = one.encrypt("secret", owner="alice")
        assert other.is_current(stored)
        assert other.decrypt(stored, owner="alice") == "secret"
        assert other.decrypt(Encryption(OLD).encrypt("secret", owner="alice"), owner="alice") == "secret"
    assert not of().has_key


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"build_mode": "production"}, "Production needs TMI_SECRET_SETTINGS_ENCRYPTION_KEY"),
        ({"secret_settings_encryption_key": NEW.hex()[:-2]}, "TMI_SECRET_SETTINGS_ENCRYPTION_KEY must be 64"),
        ({"secret_settings_encryption_key": NEW.hex() + "00"}, "must be 64"),
        ({"secret_settings_encryption_key": "x" * 64}, "must be 64"),
        ({"secret_settings_encryption_key": "0" * 64}, "must be 64"),
        ({"secret_settings_encryption_key": "0123456789abcdef" * 4}, "must be 64"),
        ({"secret_settings_encryption_previous_key": OLD.hex()}, "but not TMI_SECRET_SETTINGS_ENCRYPTION_KEY"),
        (
            {"secret_settings_encryption_key": NEW.hex(), "secret_settings_encryption_previous_key": "x"},
            "TMI_SECRET_SETTINGS_ENCRYPTION_PREVIOUS_KEY must be 64",
        ),
        (
            {"secret_settings_encryption_key": NEW.hex(), "secret_settings_encryption_key_file": "/x"},
            "both set",
        ),
        ({"secret_settings_encryption_key_file": "/nowhere/key"}, "KEY_FILE cannot be read: FileNotFoundError"),
    ],
)
def test_keys_that_are_none_are_named_and_not_told(settings: dict[str, str], named: str) -> None:
    with pytest.raises(CannotStart, match=named) as caught:
        of(**settings)
    for value in settings.values():
        assert len(value) < 60 or value not in str(caught.value)


def test_an_empty_key_file_is_not_a_key(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(CannotStart, match="must be 64"):
        of(secret_settings_encryption_key_file=str(tmp_path / "empty"))
