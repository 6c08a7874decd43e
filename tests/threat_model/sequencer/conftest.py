"""A migrated database with one threat model and one diagram, on PostgreSQL and on SQLite."""

import itertools
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import event, insert, select

from services.shared import migrations, rfc3339
from services.shared.access import OWNER
from services.shared.database import Database
from services.shared.principal import Call
from services.threat_model.access.tables import threat_model_access, threat_models
from services.threat_model.cells.tables import diagram_cells, diagrams
from services.threat_model.people.tables import principals
from services.threat_model.schema import SCHEMA
from services.threat_model.sequencer.handlers import Sequencer
from services.threat_model.service import CELL_REFERENCES
from tmi.principal.v1.principal_pb2 import Principal
from tmi.threat_model.v1 import sequencer_pb2 as messages

_ALIASES = itertools.count(1)
_CALL = Call(None, None, "", "")
MIGRATIONS = Path(__file__).parents[3] / "services" / "threat_model" / "migrations"


@pytest.fixture(scope="module")
def postgresql(database_url: str) -> Iterator[Database]:
    """The reference engine, migrated."""
    yield from _migrated(Database(database_url, SCHEMA))


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """The single-machine engine, migrated."""
    yield from _migrated(Database(f"sqlite:///{tmp_path_factory.mktemp('sqlite') / 'tmi.db'}", SCHEMA))


def _migrated(database: Database) -> Iterator[Database]:
    migrations.upgrade(database, MIGRATIONS)
    yield database
    database.engine.dispose()


@pytest.fixture(params=["postgresql", "sqlite"])
def database(request: pytest.FixtureRequest) -> Database:
    """Each engine in turn."""
    engine: Database = request.getfixturevalue(request.param)
    return engine


@pytest.fixture
def world(database: Database) -> "World":
    """A threat model of its own for the test, on each engine in turn."""
    return World(database)


@pytest.fixture
def concurrent_world(postgresql: Database) -> "World":
    """A threat model of its own for the test, on PostgreSQL only."""
    return World(postgresql)


class World:
    """A threat model with an owner and an empty diagram, and short ways to call the sequencer."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.sequencer = Sequencer(database, CELL_REFERENCES)
        self.threat_model_id = str(uuid.uuid4())
        self.owner = self.new_principal("owner")
        now = rfc3339.now()
        with database.engine.begin() as connection:
            connection.execute(
                insert(threat_models).values(
                    id=self.threat_model_id,
                    alias=next(_ALIASES),
                    name="Shop",
                    framework="STRIDE",
                    status="not_started",
                    status_updated=now,
                    is_confidential=False,
                    owner_id=self.owner.user_id,
                    created_by=self.owner.user_id,
                    metadata=[],
                    version=1,
                    created_at=now,
                    modified_at=now,
                )
            )
        self.grant(self.owner.user_id, OWNER)
        self.diagram_id = self.new_diagram()

    def new_diagram(self) -> str:
        diagram_id = str(uuid.uuid4())
        now = rfc3339.now()
        with self.database.engine.begin() as connection:
            connection.execute(
                insert(diagrams).values(
                    id=diagram_id,
                    threat_model_id=self.threat_model_id,
                    alias=next(_ALIASES),
                    name="Checkout",
                    type="DFD-1.0.0",
                    metadata=[],
                    include_in_report=True,
                    timmy_enabled=True,
                    auto_generated=False,
                    version=1,
                    update_vector=0,
                    created_at=now,
                    modified_at=now,
                )
            )
        return diagram_id

    def new_principal(self, name: str, *, kind: str = "user", group_ids: tuple[str, ...] = ()) -> Principal:
        id_ = str(uuid.uuid4())
        with self.database.engine.begin() as connection:
            connection.execute(
                insert(principals).values(
                    id=id_, type=kind, provider="tmi", provider_id=f"{name}-{id_}", display_name=name
                )
            )
        return Principal(
            user_id=id_,
            provider="tmi",
            provider_id=f"{name}-{id_}",
            email=f"{name}@example.com",
            display_name=name,
            group_ids=[uuid.UUID(group).bytes for group in group_ids],
        )

    def grant(self, principal_id: str, role: int) -> None:
        with self.database.engine.begin() as connection:
            connection.execute(
                threat_model_access.delete().where(
                    threat_model_access.c.threat_model_id == self.threat_model_id,
                    threat_model_access.c.principal_id == principal_id,
                )
            )
            if role:
                connection.execute(
                    insert(threat_model_access).values(
                        threat_model_id=self.threat_model_id, principal_id=principal_id, role=role
                    )
                )

    def set_diagram(self, **values: Any) -> None:
        with self.database.engine.begin() as connection:
            connection.execute(diagrams.update().where(diagrams.c.id == self.diagram_id).values(**values))

    def set_threat_model(self, **values: Any) -> None:
        with self.database.engine.begin() as connection:
            connection.execute(
                threat_models.update().where(threat_models.c.id == self.threat_model_id).values(**values)
            )

    def diagram(self) -> Any:
        with self.database.engine.connect() as connection:
            return connection.execute(select(diagrams).where(diagrams.c.id == self.diagram_id)).one()

    def cells(self) -> list[dict[str, Any]]:
        with self.database.engine.connect() as connection:
            texts = connection.scalars(
                select(diagram_cells.c.data)
                .where(diagram_cells.c.diagram_id == self.diagram_id)
                .order_by(diagram_cells.c.position)
            )
            return [orjson.loads(text) for text in texts]

    def store_cells(self, *cells: dict[str, Any]) -> None:
        with self.database.engine.begin() as connection:
            connection.execute(
                insert(diagram_cells),
                [
                    {
                        "diagram_id": self.diagram_id,
                        "cell_id": cell["id"],
                        "position": 10 * index,
                        "data": orjson.dumps(cell).decode(),
                    }
                    for index, cell in enumerate(cells)
                ],
            )

    def open(self, host: Principal | None = None) -> messages.OpenSessionResponse:
        return self.sequencer.open_session(
            messages.OpenSessionRequest(
                threat_model_id=self.threat_model_id, diagram_id=self.diagram_id, host=host or self.owner
            ),
            _CALL,
        )

    def operation(
        self, *entries: dict[str, Any], by: Principal | None = None, operation_id: str = ""
    ) -> messages.OperationRequest:
        return messages.OperationRequest(
            operation_id=operation_id or str(uuid.uuid4()),
            initiator=by or self.owner,
            socket_id="socket",
            operation=orjson.dumps({"type": "patch", "cells": entries}),
        )

    def commit(self, *operations: messages.OperationRequest, session_id: str = "") -> messages.CommitOperationsResponse:
        session_id = session_id or self.diagram().session_id or self.open().session.session_id
        return self.sequencer.commit_operations(
            messages.CommitOperationsRequest(diagram_id=self.diagram_id, session_id=session_id, operations=operations),
            _CALL,
        )

    def read(self, after: int, limit: int = 0) -> messages.ReadOperationsResponse:
        return self.sequencer.read_operations(
            messages.ReadOperationsRequest(diagram_id=self.diagram_id, after_vector=after, limit=limit), _CALL
        )

    def state(self) -> messages.DiagramState:
        return self.sequencer.get_diagram_state(messages.GetDiagramStateRequest(diagram_id=self.diagram_id), _CALL)

    def call(self, rpc: str, request: Any) -> Any:
        return self.sequencer.handlers()[rpc](request, _CALL)


@pytest.fixture
def count_statements() -> Callable[[Database, Callable[[], Any]], list[str]]:
    """Runs something and returns the SQL statements that it sent."""

    def count(database: Database, work: Callable[[], Any]) -> list[str]:
        statements: list[str] = []

        def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if not statement.startswith("BEGIN"):
                statements.append(statement)

        event.listen(database.engine, "before_cursor_execute", note)
        try:
            work()
        finally:
            event.remove(database.engine, "before_cursor_execute", note)
        return statements

    return count
