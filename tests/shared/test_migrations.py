"""`make migration`: a numbered file that continues the service's migrations, and migrating from any folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from services.auth.__main__ import MIGRATIONS
from services.shared import migrations
from services.shared.database import Database


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The first migration of auth in a folder of the test's, whose name has what option files give a meaning."""
    folder = tmp_path / "100 % of 'auth' [é]" / "auth" / "migrations"
    (folder / "versions").mkdir(parents=True)
    shutil.copy(MIGRATIONS / "versions" / "0001_identity.py", folder / "versions")
    return folder


def test_a_new_revision_continues_the_last_one(copied: Path) -> None:
    first = migrations.new_revision(copied, "add_tags")
    second = migrations.new_revision(copied, "drop_tags_2")
    assert (first.name, second.name) == ("0002_add_tags.py", "0003_drop_tags_2.py")
    assert 'revision = "0003"\ndown_revision = "0002"\n\nSCHEMA = "auth"\n' in second.read_text()
    assert first.read_text().startswith('"""Add tags."""\n')


def test_it_does_nothing_by_mistake_and_then_what_was_filled_in(copied: Path, tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'tmi.db'}", "auth")
    file = migrations.new_revision(copied, "add_tags")
    with pytest.raises(NotImplementedError):
        migrations.upgrade(database, copied)
    lines = 'op.create_table("tags", sa.Column("name", sa.String(20), primary_key=True), schema=SCHEMA)'
    file.write_text(file.read_text().replace("raise NotImplementedError", lines))
    migrations.upgrade(database, copied)
    assert database.read(lambda connection: connection.execute(text("SELECT count(*) FROM tags")).scalar()) == 0
    database.engine.dispose()


@pytest.mark.parametrize("name", ["", "Add_tags", "add-tags", "add tags", "../add", "_add", "add_", 'x"""'])
def test_a_name_is_a_name(copied: Path, name: str) -> None:
    with pytest.raises(ValueError, match="is no name of a migration"):
        migrations.new_revision(copied, name)
    assert len(list((copied / "versions").glob("*.py"))) == 1


def test_two_ends_are_an_error(copied: Path) -> None:
    file = migrations.new_revision(copied, "left")
    other = file.with_name("0003_right.py")
    other.write_text(file.read_text().replace('revision = "0002"', 'revision = "0003"', 1))
    with pytest.raises(ValueError, match="ends in the revisions 0002, 0003"):
        migrations.new_revision(copied, "more")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["", "add_tags"], "invalid choice"), (["auth", "Add"], "no name"), (["gateway", "add_tags"], "invalid choice")],
)
def test_the_command_says_what_is_wrong(project: Path, arguments: list[str], said: str) -> None:
    command = [sys.executable, "-m", "services.shared.migrations", *arguments]
    environment = os.environ | {"PYTHONPATH": f"{project}:{project / 'build/stubs'}"}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert said in done.stderr
