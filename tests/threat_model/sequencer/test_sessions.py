import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import select

from services.shared import rfc3339
from services.shared.access import READER, WRITER
from services.shared.errors import ApiError
from services.shared.principal import EVERYONE_GROUP_ID
from services.threat_model.cells.tables import diagrams
from tests.threat_model.sequencer.conftest import World
from tmi.principal.v1.principal_pb2 import Principal
from tmi.threat_model.v1 import sequencer_pb2 as messages

ROLES = messages.Role


def open_error(world: World, host: Principal, **keys: str) -> ApiError:
    request = messages.OpenSessionRequest(
        threat_model_id=keys.get("threat_model_id", world.threat_model_id),
        diagram_id=keys.get("diagram_id", world.diagram_id),
        host=host,
    )
    with pytest.raises(ApiError) as caught:
        world.call("OpenSession", request)
    with pytest.raises(ApiError) as found:
        world.call(
            "GetSession",
            messages.GetSessionRequest(
                threat_model_id=request.threat_model_id, diagram_id=request.diagram_id, principal=host
            ),
        )
    assert (caught.value.status, caught.value.code) == (found.value.status, found.value.code)
    return caught.value


def get(world: World, principal: Principal | None = None) -> messages.DiagramSession:
    request = messages.GetSessionRequest(
        threat_model_id=world.threat_model_id, diagram_id=world.diagram_id, principal=principal or world.owner
    )
    session: messages.DiagramSession = world.call("GetSession", request)
    return session


def test_an_administrator_needs_no_role_where_that_is_said(world: World) -> None:
    opened = world.open().session
    administrator = world.new_principal("administrator")
    request = messages.GetSessionRequest(
        threat_model_id=world.threat_model_id, diagram_id=world.diagram_id, principal=administrator
    )
    for is_administrator, administrators_may in ((True, False), (False, True)):
        request.principal.is_administrator = is_administrator
        request.administrators_may = administrators_may
        with pytest.raises(ApiError) as caught:
            world.call("GetSession", request)
        assert caught.value.status == 403
    request.principal.is_administrator = True
    session = world.call("GetSession", request)
    assert (session.session_id, session.role) == (opened.session_id, messages.ROLE_UNSPECIFIED)


def listed(world: World, principal: Principal | None) -> list[messages.DiagramSession]:
    response = world.call("ListSessions", messages.ListSessionsRequest(principal=principal))
    return [session for session in response.sessions if session.threat_model_id == world.threat_model_id]


def close(world: World, session_id: str, **keys: Any) -> bool:
    request = messages.CloseSessionRequest(diagram_id=world.diagram_id, session_id=session_id, **keys)
    closed: bool = world.call("CloseSession", request).closed
    return closed


def test_a_session_that_may_be_absent_is_answered_without_an_id(world: World) -> None:
    request = messages.GetSessionRequest(
        threat_model_id=world.threat_model_id,
        diagram_id=world.diagram_id,
        principal=world.owner,
        may_be_absent=True,
    )
    absent = world.call("GetSession", request)
    assert (absent.session_id, absent.diagram_id, absent.HasField("host")) == ("", world.diagram_id, False)
    request.threat_model_id = str(uuid.uuid4())
    with pytest.raises(ApiError) as caught:
        world.call("GetSession", request)
    assert caught.value.status == 404


def test_the_first_opens_the_session_and_the_next_finds_it(world: World) -> None:
    reader = world.new_principal("reader")
    world.grant(reader.user_id, READER)
    world.set_diagram(update_vector=7)
    first, second = world.open(reader), world.open()
    assert (first.created, second.created) == (True, False)
    session = first.session
    assert uuid.UUID(session.session_id).version == 4
    assert (session.threat_model_name, session.diagram_name) == ("Shop", "Checkout")
    assert (session.threat_model_id, session.diagram_id) == (world.threat_model_id, world.diagram_id)
    assert session.host == reader
    assert session.start_vector == 7
    assert session.started_at == session.last_activity_at > 0
    assert (session.role, second.session.role) == (ROLES.ROLE_READER, ROLES.ROLE_OWNER)
    session.role = ROLES.ROLE_OWNER
    assert second.session == get(world) == session


def test_start_vector_stays_while_the_vector_grows(world: World) -> None:
    world.open()
    world.set_diagram(update_vector=3)
    assert get(world).start_vector == 0


def test_access_through_a_group_or_everyone_counts(world: World) -> None:
    group = world.new_principal("group", kind="group")
    world.grant(group.user_id, WRITER)
    member = world.new_principal("member", group_ids=(group.user_id,))
    assert world.open(member).session.role == ROLES.ROLE_WRITER
    stranger = world.new_principal("stranger")
    assert open_error(world, stranger).status == 403
    world.grant(EVERYONE_GROUP_ID, READER)
    assert get(world, stranger).role == ROLES.ROLE_READER


def test_unknown_or_deleted_things_are_404_and_no_role_is_403(world: World) -> None:
    stranger = world.new_principal("stranger")
    unknown = str(uuid.uuid4())
    assert open_error(world, stranger).code == "forbidden"
    assert open_error(world, stranger, diagram_id=unknown).code == "forbidden"
    assert open_error(world, world.owner, diagram_id=unknown).code == "not_found"
    assert open_error(world, world.owner, threat_model_id=unknown).code == "not_found"
    assert open_error(world, world.owner, diagram_id="x").code == "invalid_id"
    assert open_error(world, world.owner, threat_model_id="").code == "invalid_id"
    other = World(world.database)
    assert open_error(world, world.owner, diagram_id=other.diagram_id).code == "not_found"
    world.set_diagram(deleted_at=rfc3339.now())
    assert open_error(world, world.owner).code == "not_found"
    world.set_diagram(deleted_at=None)
    world.set_threat_model(deleted_at=rfc3339.now())
    assert open_error(world, world.owner).code == "not_found"


def test_a_diagram_without_session_has_none_to_get(world: World) -> None:
    with pytest.raises(ApiError) as caught:
        get(world)
    assert caught.value.code == "not_found"


def test_sessions_are_listed_for_those_who_may_read_them(world: World) -> None:
    group = world.new_principal("group", kind="group")
    reader = world.new_principal("reader", group_ids=(group.user_id,))
    stranger = world.new_principal("stranger")
    world.grant(reader.user_id, READER)
    world.grant(group.user_id, WRITER)
    assert listed(world, world.owner) == []
    session = world.open().session
    assert listed(world, world.owner) == [session]
    session.role = ROLES.ROLE_WRITER
    assert listed(world, reader) == [session]  # once, with the highest role
    assert listed(world, stranger) == []
    session.role = ROLES.ROLE_UNSPECIFIED
    assert listed(world, None) == [session]
    world.set_diagram(deleted_at=rfc3339.now())
    assert listed(world, world.owner) == listed(world, None) == []


def test_closing_ends_only_the_session_that_is_named(world: World) -> None:
    session_id = world.open().session.session_id
    assert not close(world, str(uuid.uuid4()))
    assert close(world, session_id)
    assert not close(world, session_id)
    assert world.diagram().session_host is None
    again = world.open()
    assert again.created
    assert again.session.session_id != session_id
    assert not close(world, session_id)


def test_a_session_ends_by_idleness_only_when_it_is_idle(world: World) -> None:
    session = world.open().session
    assert not close(world, session.session_id, idle_since=session.last_activity_at - 1)
    assert close(world, session.session_id, idle_since=session.last_activity_at)


def test_a_time_that_is_none_is_refused(world: World) -> None:
    with pytest.raises(ApiError) as caught:
        close(world, str(uuid.uuid4()), idle_since=2**62)
    assert caught.value.code == "invalid_input"


def test_touching_notes_activity_of_those_still_open(world: World) -> None:
    session = world.open().session
    world.set_diagram(session_activity_at=rfc3339.from_text("2026-01-01T00:00:00Z"))
    request = messages.TouchSessionsRequest(session_ids=[session.session_id, str(uuid.uuid4())])
    assert list(world.call("TouchSessions", request).session_ids) == [session.session_id]
    assert get(world).last_activity_at >= session.last_activity_at
    assert list(world.call("TouchSessions", messages.TouchSessionsRequest()).session_ids) == []
    with pytest.raises(ApiError):
        world.call("TouchSessions", messages.TouchSessionsRequest(session_ids=["x"]))


def test_two_that_open_at_once_get_the_same_session(concurrent_world: World) -> None:
    world = concurrent_world
    for _ in range(10):
        barrier = Barrier(4)

        def race(barrier: Barrier = barrier) -> messages.OpenSessionResponse:
            barrier.wait()
            return world.open()

        with ThreadPoolExecutor(4) as pool:
            answers = [future.result() for future in [pool.submit(race) for _ in range(4)]]
        assert sorted(answer.created for answer in answers) == [False, False, False, True]
        (session_id,) = {answer.session.session_id for answer in answers}
        assert close(world, session_id)


def test_a_session_cannot_start_under_the_lock_of_a_rest_write(concurrent_world: World) -> None:
    world = concurrent_world
    with ThreadPoolExecutor(1) as pool, world.database.engine.begin() as rest:
        locked = rest.execute(select(diagrams).where(diagrams.c.id == world.diagram_id).with_for_update()).one()
        assert locked.session_id is None
        opening = pool.submit(world.open)
        waits_for_lock(world)
        rest.execute(diagrams.update().where(diagrams.c.id == world.diagram_id).values(update_vector=5))
        rest.commit()
        session = opening.result().session
    assert session.start_vector == 5


def waits_for_lock(world: World) -> None:
    """Returns once a connection of this database waits for a row lock."""
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    deadline = time.monotonic() + 10
    with world.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while connection.exec_driver_sql(waiting).first() is None:
            assert time.monotonic() < deadline


def test_sessions_are_listed_by_id_and_by_idleness(world: World) -> None:
    session = world.open().session
    stranger = world.new_principal("stranger")

    def found(**request: Any) -> list[str]:
        answer = world.call("ListSessions", messages.ListSessionsRequest(**request))
        return [known.session_id for known in answer.sessions]

    assert found(principal=world.owner, session_id=session.session_id) == [session.session_id]
    assert found(principal=world.owner, session_id=str(uuid.uuid4())) == []
    assert found(principal=stranger, session_id=session.session_id) == []
    assert session.session_id in found(idle_since=session.last_activity_at)
    assert session.session_id not in found(idle_since=session.last_activity_at - 1)
