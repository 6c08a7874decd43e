"""Rules of a room, one by one, on the state machine alone."""

from typing import Any
from uuid import uuid4

import orjson
import pytest

from services.collaboration import effects
from services.collaboration import room as room_module
from services.collaboration.participants import ConnectedSocket
from services.collaboration.room import FIRST_HOST_SECONDS, HOST_DISCONNECTED, Room
from tests.collaboration.simulation import DIAGRAM, SESSION, START_VECTOR, ModelSequencer, principal
from tmi.collaboration.v1.relay_pb2 import RelayedDirect, RelayedVolatile
from tmi.collaboration.v1.rooms_pb2 import RoomFrame
from tmi.threat_model.v1 import sequencer_pb2 as sequencer


class Bench:
    """A room whose wishes are granted by hand, or at once with `settle`."""

    def __init__(self, host_grace_seconds: float = 15.0, inactivity_seconds: float = 900.0) -> None:
        session = sequencer.DiagramSession(
            session_id=SESSION, diagram_id=DIAGRAM, host=principal("host"), start_vector=START_VECTOR
        )
        self.now = 1000.0
        self.room = Room(
            session, self.now, host_grace_seconds=host_grace_seconds, inactivity_seconds=inactivity_seconds
        )
        self.room.presence([], self.now)
        self.sequencer = ModelSequencer(log_limit=None)
        self.effects: list[effects.Effect] = []
        self.numbers = 0

    def open(self, *names: str, link: str = "link") -> None:
        self.room.attach(link, f"gateway-{link}", None, self.now)
        for name in names:
            self.room.join(link, name, principal(name), self.now, is_rejoin=False)
            self.now += 0.001
        self.settle()
        self.effects.clear()

    def settle(self) -> None:
        while wishes := self.room.take_effects():
            self.effects += wishes
            for wish in wishes:
                match wish:
                    case effects.CommitGroup():
                        self.room.committed(self.sequencer.commit(wish.operations), self.now)
                    case effects.FetchState():
                        self.room.state_fetched(self.sequencer.state(), self.now)
                    case effects.ReadLog():
                        self.room.log_read(wish.after_vector, self.sequencer.read(wish.after_vector), self.now)
                    case effects.CheckAccess():
                        roles = {socket_id: self.sequencer.role(who) for socket_id, who in wish.principals}
                        self.room.access_checked(roles, self.now)

    def say(self, socket_id: str, message: dict[str, Any] | bytes, link: str = "link") -> None:
        self.numbers += 1
        text = message if isinstance(message, bytes) else orjson.dumps(message)
        self.room.message(link, socket_id, self.numbers, text, self.now)
        self.settle()

    def edit(self, socket_id: str, *, operation_id: str = "", cell: str = "cell", base: int | None = None) -> str:
        """base: what the socket had seen; everything unless given."""
        operation_id = operation_id or str(uuid4())
        self.say(socket_id, operation(operation_id, cell, base))
        return operation_id

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.room.tick(self.now)
        self.settle()

    def frames(self, kind: str, link: str = "link") -> list[RoomFrame]:
        sent = [
            effect.frame for effect in self.effects if isinstance(effect, effects.SendFrame) and effect.link == link
        ]
        return [frame for frame in sent if frame.HasField(kind)]  # type: ignore[arg-type]

    def directs(self, socket_id: str) -> list[dict[str, Any]]:
        return [
            orjson.loads(frame.direct.text) for frame in self.frames("direct") if frame.direct.socket_id == socket_id
        ]

    def broadcasts(self, link: str = "link") -> list[dict[str, Any]]:
        return [orjson.loads(frame.broadcast.text) for frame in self.frames("broadcast", link)]

    def of(self, kind: type) -> list[Any]:
        return [effect for effect in self.effects if isinstance(effect, kind)]


def operation(operation_id: str, cell: str = "cell", base_vector: int | None = None) -> dict[str, Any]:
    return {
        "message_type": "diagram_operation_request",
        "operation_id": operation_id,
        "base_vector": base_vector,
        "operation": {"type": "patch", "cells": [{"id": cell, "operation": "update", "data": operation_id}]},
        "unknown": True,
    }


def test_newcomer_gets_its_state_before_anybody_hears_of_it() -> None:
    bench = Bench()
    bench.open("host")
    bench.room.join("link", "bob", principal("bob"), bench.now, is_rejoin=False)
    bench.settle()
    kinds = [frame.WhichOneof("frame") for frame in (e.frame for e in bench.of(effects.SendFrame))]
    assert kinds == ["state", "broadcast"]
    update = bench.broadcasts()[0]
    assert update["message_type"] == "participants_update"
    assert [entry["user"]["provider_id"] for entry in update["participants"]] == ["host", "bob"]
    assert update["initiating_user"] is None
    assert update["current_presenter"] == update["host"]


def test_event_is_numbered_from_the_start_of_the_session_and_not_echoed() -> None:
    bench = Bench()
    bench.open("host", "bob")
    operation_id = bench.edit("bob")
    (frame,) = bench.frames("broadcast")
    assert frame.broadcast.except_socket_id == "bob"
    assert frame.broadcast.update_vector == START_VECTOR + 1
    event = orjson.loads(frame.broadcast.text)
    assert (event["operation_id"], event["sequence_number"], event["update_vector"]) == (operation_id, 1, 8)
    assert [frame.ack.socket_id for frame in bench.frames("ack")] == ["bob"]


def test_operation_is_acknowledged_only_after_its_commit() -> None:
    bench = Bench()
    bench.open("host")
    bench.room.message("link", "host", 1, orjson.dumps(operation(str(uuid4()))), bench.now)
    wishes = bench.room.take_effects()
    assert [type(wish) for wish in wishes] == [effects.CommitGroup]
    bench.room.committed(bench.sequencer.commit(wishes[0].operations), bench.now)  # type: ignore[union-attr]
    bench.settle()
    assert len(bench.frames("ack")) == 1
    assert len(bench.of(effects.Publish)) == 1, "published after the commit"


def test_operations_that_arrive_during_a_commit_become_one_group() -> None:
    bench = Bench()
    bench.open("host")
    for number in range(4):
        bench.room.message("link", "host", number, orjson.dumps(operation(str(uuid4()))), bench.now)
    bench.settle()
    assert [len(group.operations) for group in bench.of(effects.CommitGroup)] == [1, 3]


def test_repeated_operation_is_neither_broadcast_nor_rejected() -> None:
    bench = Bench()
    bench.open("host", "bob")
    operation_id = bench.edit("bob")
    bench.effects.clear()
    bench.edit("bob", operation_id=operation_id)
    assert [frame.WhichOneof("frame") for frame in (e.frame for e in bench.of(effects.SendFrame))] == ["ack"]


def test_rejection_tells_the_sender_alone() -> None:
    bench = Bench()
    bench.open("host", "bob")
    operation_id = bench.edit("bob", cell="rejected")
    (rejection,) = bench.directs("bob")
    assert rejection["message_type"] == "operation_rejected"
    assert rejection["operation_id"] == operation_id
    assert rejection["reason"] == "conflict_detected"
    assert rejection["requires_resync"] is True
    assert rejection["update_vector"] == START_VECTOR
    assert not bench.broadcasts()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"operation_id": "nonsense"}, "validation_failed"),
        ({"operation_id": 7}, "validation_failed"),
        ({"operation": None}, "validation_failed"),
        ({"operation": {"type": "replace", "cells": [{}]}}, "invalid_operation_type"),
        ({"operation": {"type": "patch"}}, "empty_operation"),
        ({"operation": {"type": "patch", "cells": []}}, "empty_operation"),
        ({"operation": {"type": "patch", "cells": "all"}}, "validation_failed"),
    ],
)
def test_malformed_operation_is_rejected_with_a_documented_reason(change: dict[str, Any], reason: str) -> None:
    bench = Bench()
    bench.open("host")
    bench.say("host", operation(str(uuid4())) | change)
    (rejection,) = bench.directs("host")
    assert (rejection["message_type"], rejection["reason"]) == ("operation_rejected", reason)
    assert isinstance(rejection["operation_id"], str)
    assert rejection["requires_resync"] is False


def test_operation_nested_too_deeply_is_rejected() -> None:
    bench = Bench()
    bench.open("host")
    deep = "[" * 400 + "]" * 400
    text = orjson.dumps(operation(str(uuid4()))).replace(b'"type":"patch"', b'"type":"patch","deep":' + deep.encode())
    bench.say("host", text)
    assert bench.directs("host")[0]["reason"] == "validation_failed"


def test_readers_operation_is_denied_with_its_id() -> None:
    bench = Bench()
    bench.sequencer.readers = {"carol"}
    bench.open("host", "carol")
    operation_id = bench.edit("carol")
    assert bench.directs("carol") == [
        {
            "message_type": "authorization_denied",
            "original_operation_id": operation_id,
            "reason": "insufficient_permissions",
        }
    ]
    malformed = operation(str(uuid4())) | {"operation": {}}
    bench.say("carol", malformed)
    assert bench.directs("carol")[-1]["original_operation_id"] == malformed["operation_id"]


@pytest.mark.parametrize("text", [b"", b"nonsense", b"[]", b'"text"', b"null", b"\xff", b'{"message_type":'])
def test_undecodable_text_is_ignored_because_an_error_would_end_the_web_clients_session(text: bytes) -> None:
    bench = Bench()
    bench.open("host")
    bench.say("host", text)
    assert [frame.WhichOneof("frame") for frame in (e.frame for e in bench.of(effects.SendFrame))] == ["ack"]


@pytest.mark.parametrize("kind", ["participants_update", "diagram_operation_event", "error", "operation_rejected"])
def test_server_only_type_is_an_invalid_message_type(kind: str) -> None:
    bench = Bench()
    bench.open("host")
    bench.say("host", {"message_type": kind})
    assert bench.directs("host")[0]["error"] == "invalid_message_type"


@pytest.mark.parametrize("message", [{}, {"message_type": "dance"}, {"message_type": 5}, {"message_type": ["error"]}])
def test_unknown_type_is_unsupported(message: dict[str, Any]) -> None:
    bench = Bench()
    bench.open("host")
    bench.say("host", message)
    error = bench.directs("host")[0]
    assert (error["message_type"], error["error"]) == ("error", "unsupported_message_type")
    assert error["timestamp"].endswith("Z")


def test_sync_status_request_is_answered_with_the_vector() -> None:
    bench = Bench()
    bench.open("host")
    bench.edit("host")
    bench.say("host", {"message_type": "sync_status_request"})
    assert bench.directs("host")[-1] == {"message_type": "sync_status_response", "update_vector": START_VECTOR + 1}


def test_sync_request_with_the_current_vector_is_answered_with_it() -> None:
    bench = Bench()
    bench.open("host")
    bench.say("host", {"message_type": "sync_request", "update_vector": START_VECTOR})
    assert bench.directs("host") == [{"message_type": "sync_status_response", "update_vector": START_VECTOR}]


@pytest.mark.parametrize("vector", [None, 3, "7", True])
def test_sync_request_with_another_vector_is_answered_with_the_state(vector: object) -> None:
    bench = Bench()
    bench.open("host")
    bench.say("host", {"message_type": "sync_request", "update_vector": vector})
    (frame,) = bench.frames("state")
    assert orjson.loads(frame.state.text)["update_vector"] == START_VECTOR


def test_snapshot_older_than_what_the_stream_carried_is_followed_by_the_events_in_between() -> None:
    bench = Bench()
    bench.open("host", "bob")
    old = bench.sequencer.state()
    bench.room.join("link", "carol", principal("carol"), bench.now, is_rejoin=False)
    wishes = bench.room.take_effects()
    assert any(isinstance(wish, effects.FetchState) for wish in wishes)
    operation_id = bench.edit("bob")
    bench.room.state_fetched(old, bench.now)
    bench.settle()
    (frame,) = bench.frames("state")
    assert orjson.loads(frame.state.text)["update_vector"] == START_VECTOR
    assert [orjson.loads(text)["operation_id"] for text in frame.state.following] == [operation_id]
    assert frame.state.update_vector == START_VECTOR + 1


def test_gap_is_filled_from_the_log_after_a_moment() -> None:
    bench = Bench()
    bench.open("host")
    for _ in range(2):
        request = sequencer.OperationRequest(
            operation_id=str(uuid4()), initiator=principal("bob"), operation=b'{"cells":[]}', socket_id="elsewhere"
        )
        bench.sequencer.commit((request,))
    bench.room.relayed([bench.sequencer.log[START_VECTOR + 2]], bench.now)
    bench.settle()
    assert not bench.frames("broadcast")
    bench.now += 0.03
    bench.room.tick(bench.now)
    bench.settle()
    assert [frame.broadcast.update_vector for frame in bench.frames("broadcast")] == [8, 9]


def test_only_the_presenters_cursor_is_relayed_without_unknown_keys_and_marked_volatile() -> None:
    bench = Bench()
    bench.open("host", "bob")
    bench.say("bob", {"message_type": "presenter_cursor", "cursor_position": {"x": 1, "y": 2}})
    assert not bench.frames("broadcast")
    bench.say("host", {"message_type": "presenter_cursor", "cursor_position": {"x": 1, "y": 2.5, "z": 3}, "more": 1})
    (frame,) = bench.frames("broadcast")
    assert frame.broadcast.is_volatile
    assert frame.broadcast.except_socket_id == "host"
    assert orjson.loads(frame.broadcast.text) == {
        "message_type": "presenter_cursor",
        "cursor_position": {"x": 1, "y": 2.5},
    }
    assert len(bench.of(effects.Publish)) == 1


@pytest.mark.parametrize("position", [None, [], {"x": 1}, {"x": "1", "y": 2}, {"x": True, "y": 2}])
def test_cursor_without_a_position_is_ignored(position: object) -> None:
    bench = Bench()
    bench.open("host", "bob")
    bench.say("host", {"message_type": "presenter_cursor", "cursor_position": position})
    assert not bench.frames("broadcast")


def test_missing_selection_is_relayed_as_an_empty_one() -> None:
    bench = Bench()
    bench.open("host", "bob")
    bench.say("host", {"message_type": "presenter_selection"})
    assert bench.broadcasts() == [{"message_type": "presenter_selection", "selected_cells": []}]
    bench.say("host", {"message_type": "presenter_selection", "selected_cells": [1]})
    assert len(bench.broadcasts()) == 1


def test_cursors_are_coalesced_to_thirty_a_second() -> None:
    bench = Bench()
    bench.open("host", "bob")
    for x in range(100):
        bench.now += 0.001
        bench.say("host", {"message_type": "presenter_cursor", "cursor_position": {"x": x, "y": 0}})
        bench.room.tick(bench.now)
        bench.settle()
    bench.now += 1
    bench.room.tick(bench.now)
    bench.settle()
    positions = [message["cursor_position"]["x"] for message in bench.broadcasts()]
    assert len(positions) <= 5
    assert positions[0] == 0
    assert positions[-1] == 99


def test_cursor_from_another_replica_is_passed_on() -> None:
    bench = Bench()
    bench.open("bob")
    bench.room.volatile_relayed(RelayedVolatile(text=b'{"message_type":"presenter_cursor"}', except_socket_id="x"))
    bench.settle()
    assert bench.frames("broadcast")[0].broadcast.is_volatile


@pytest.mark.parametrize("direction", ["undo", "redo"])
def test_undo_and_redo_are_refused_in_words(direction: str) -> None:
    bench = Bench()
    bench.open("host")
    bench.say("host", {"message_type": f"{direction}_request"})
    answer, words = bench.directs("host")
    assert answer == {
        "message_type": "history_operation",
        "operation_type": direction,
        "message": f"no_operations_to_{direction}",
    }
    assert (words["message_type"], words["error"]) == ("error", "validation_error"), "the web client shows only this"
    assert words["message"].lower().startswith(direction)


def test_presenter_requests_leave_the_host_presenting() -> None:
    bench = Bench()
    bench.open("host", "bob")
    bench.say("host", {"message_type": "presenter_request"})
    assert bench.broadcasts()[-1]["current_presenter"]["provider_id"] == "host"
    for kind in ("change_presenter_request", "remove_participant_request"):
        bench.say("host", {"message_type": kind})
        assert bench.directs("host")[-1]["error"] == "invalid_participant", "the error that ends no session"
        bench.say("bob", {"message_type": kind})
    assert bench.directs("bob") == [], "only the host is answered"


def test_presenter_request_reaches_the_host_and_the_denial_who_asked() -> None:
    bench = Bench()
    bench.open("host", "bob")
    bench.say("bob", {"message_type": "presenter_request"})
    (request,) = bench.directs("host")
    assert request["message_type"] == "presenter_request_event"
    assert request["requesting_user"]["provider_id"] == "bob"
    denial = {"message_type": "presenter_denied_request", "denied_user": request["requesting_user"]}
    bench.say("bob", denial)
    bench.say("host", {**denial, "denied_user": "bob"})
    assert bench.directs("bob") == []
    bench.say("host", denial)
    (denied,) = bench.directs("bob")
    assert (denied["message_type"], denied["denied_user"]["provider_id"]) == ("presenter_denied_event", "bob")


def test_presenter_request_reaches_the_host_on_another_replica() -> None:
    bench = Bench()
    bench.open("bob")
    bench.say("bob", {"message_type": "presenter_request"})
    assert [text["message_type"] for text in bench.directs("bob")] == ["presenter_denied_event"], "nobody can decide"
    host = ConnectedSocket("remote", principal("host"), sequencer.ROLE_OWNER, bench.now, bench.now)
    bench.room.presence([host], bench.now)
    bench.effects.clear()
    bench.say("bob", {"message_type": "presenter_request"})
    (published,) = [wish.frame.direct for wish in bench.of(effects.Publish) if wish.frame.HasField("direct")]
    assert (published.socket_id, bench.directs("bob")) == ("remote", [])
    other = Bench()
    other.open("host")
    for socket_id in ("host", "somebody else"):
        other.room.relayed_direct(RelayedDirect(socket_id=socket_id, text=published.text))
    other.settle()
    assert [text["message_type"] for text in other.directs("host")] == ["presenter_request_event"]


def test_user_with_two_sockets_leaves_with_the_last_one() -> None:
    bench = Bench()
    bench.open("host")
    for socket_id in ("bob-1", "bob-2"):
        bench.room.join("link", socket_id, principal("bob"), bench.now, is_rejoin=False)
    bench.settle()
    bench.effects.clear()
    bench.room.leave("link", "bob-1", 1, bench.now)
    bench.settle()
    assert not bench.broadcasts()
    bench.room.leave("link", "bob-2", 1, bench.now)
    bench.settle()
    assert [entry["user"]["provider_id"] for entry in bench.broadcasts()[-1]["participants"]] == ["host"]


def test_socket_that_has_left_is_not_brought_back_by_a_late_reading_of_the_presence() -> None:
    bench = Bench()
    bench.open("host", "bob")
    bench.room.leave("link", "bob", 1, bench.now)
    stale = ConnectedSocket("bob", principal("bob"), sequencer.ROLE_WRITER, bench.now, bench.now)
    bench.room.presence([stale], bench.now)
    bench.settle()
    assert len(bench.broadcasts()) == 1
    assert [entry["user"]["provider_id"] for entry in bench.broadcasts()[0]["participants"]] == ["host"]


def test_participants_of_other_replicas_are_listed() -> None:
    bench = Bench()
    bench.open("host")
    remote = ConnectedSocket("r", principal("bob"), sequencer.ROLE_READER, bench.now + 1, bench.now)
    bench.room.presence([remote], bench.now)
    bench.settle()
    (update,) = bench.broadcasts()
    assert [(entry["user"]["provider_id"], entry["permissions"]) for entry in update["participants"]] == [
        ("host", "writer"),
        ("bob", "reader"),
    ]
    bench.room.presence([remote], bench.now)
    bench.settle()
    assert len(bench.broadcasts()) == 1, "nothing has changed"


def test_socket_without_access_is_closed_and_leaves() -> None:
    bench = Bench()
    bench.open("host", "bob")
    bench.room.access_checked({"bob": sequencer.ROLE_UNSPECIFIED}, bench.now)
    bench.settle()
    (frame,) = bench.frames("close")
    assert (frame.close.socket_id, frame.close.code, frame.close.reason) == ("bob", 4403, "access revoked")
    assert len(bench.broadcasts()[-1]["participants"]) == 1


def test_session_ends_when_the_host_stays_away_longer_than_the_grace_period() -> None:
    bench = Bench(host_grace_seconds=15)
    bench.open("host", "bob")
    bench.room.leave("link", "host", 1, bench.now)
    bench.now += 14
    bench.room.tick(bench.now)
    bench.settle()
    assert not bench.of(effects.EndSession)
    bench.now += 1
    bench.room.tick(bench.now)
    bench.room.tick(bench.now)
    bench.settle()
    assert [end.reason for end in bench.of(effects.EndSession)] == [HOST_DISCONNECTED]


def test_host_who_comes_back_in_time_keeps_the_session() -> None:
    bench = Bench(host_grace_seconds=15)
    bench.open("host", "bob")
    bench.room.leave("link", "host", 1, bench.now)
    bench.now += 14
    bench.room.join("link", "host-again", principal("host"), bench.now, is_rejoin=False)
    bench.now += 100
    bench.room.tick(bench.now)
    bench.settle()
    assert not bench.of(effects.EndSession)


def test_host_on_another_replica_keeps_the_session() -> None:
    bench = Bench(host_grace_seconds=15)
    bench.open("bob")
    bench.room.presence(
        [ConnectedSocket("h", principal("host"), sequencer.ROLE_OWNER, bench.now, bench.now)], bench.now
    )
    bench.now += 100
    bench.room.tick(bench.now)
    bench.settle()
    assert not bench.of(effects.EndSession)


def test_host_who_has_not_come_yet_has_a_minute() -> None:
    bench = Bench(host_grace_seconds=15)
    bench.open("bob")
    bench.now += FIRST_HOST_SECONDS - 1
    bench.room.tick(bench.now)
    assert not bench.room.take_effects()
    bench.now += 1
    bench.room.tick(bench.now)
    bench.settle()
    assert bench.of(effects.EndSession)


@pytest.mark.parametrize("sign_of_life", [{"message_type": "sync_status_request"}, b"nonsense"])
def test_who_only_looks_is_warned_a_minute_before_the_session_ends(sign_of_life: Any) -> None:
    bench = Bench(inactivity_seconds=900)
    bench.open("host")
    for _ in range(2):
        bench.pass_time(839)
        assert not bench.broadcasts()
        bench.say("host", sign_of_life)
    bench.pass_time(840)
    (warning,) = bench.broadcasts()
    assert (warning["message_type"], warning["error"]) == ("error", "validation_error")
    bench.pass_time(1)
    assert len(bench.broadcasts()) == 1
    bench.say("host", sign_of_life)
    bench.pass_time(840)
    assert len(bench.broadcasts()) == 2, "and again after somebody has moved"


def test_activity_on_another_replica_counts() -> None:
    bench = Bench(inactivity_seconds=900)
    bench.open("host")
    remote = ConnectedSocket("remote", principal("bob"), sequencer.ROLE_WRITER, bench.now, bench.now)
    bench.room.presence([remote], bench.now)
    bench.effects.clear()
    bench.now += 839
    remote.last_activity_at = bench.now
    bench.room.presence([remote], bench.now)
    bench.pass_time(839)
    assert bench.room.last_activity_at == remote.last_activity_at
    assert not [text for text in bench.broadcasts() if text["message_type"] == "error"]


def test_end_tells_and_closes_everybody_and_finishes_the_room() -> None:
    bench = Bench()
    bench.open("host", "bob")
    bench.room.publish_end("Over.", bench.now)
    bench.settle()
    (frame,) = bench.frames("close")
    assert (frame.close.socket_id, frame.close.code, frame.close.reason) == ("", 1000, "Over.")
    assert orjson.loads(frame.close.last_text)["error"] == "session_terminated"
    assert [type(effect) for effect in bench.effects][-1] is effects.Finished
    assert len(bench.of(effects.Publish)) == 1
    assert bench.room.is_finished


def test_room_is_settled_when_every_gateway_is_and_every_operation_has_its_outcome() -> None:
    bench = Bench()
    bench.open("host")
    bench.room.attach("other", "other gateway", None, bench.now)
    bench.room.settle("ending", "over")
    bench.settle()
    assert [frame.settle.ending_id for link in ("link", "other") for frame in bench.frames("settle", link)] == [
        "ending",
        "ending",
    ]
    bench.room.settled("link", "ending")
    for number in range(2):
        bench.room.message("link", "host", number, orjson.dumps(operation(str(uuid4()))), bench.now)
    bench.room.settled("other", "ending")
    for _ in range(2):
        (wish,) = (wish for wish in bench.room.take_effects() if isinstance(wish, effects.CommitGroup))
        assert not bench.of(effects.TellSettled)
        bench.room.committed(bench.sequencer.commit(wish.operations), bench.now)
    bench.settle()
    assert [wish.ending_id for wish in bench.of(effects.TellSettled)] == ["ending"]


def test_stream_that_is_lost_is_not_waited_for() -> None:
    bench = Bench()
    bench.open("host")
    bench.room.settle("ending", "over")
    bench.room.detach("link", bench.now)
    bench.settle()
    assert [wish.ending_id for wish in bench.of(effects.TellSettled)] == ["ending"]


def test_state_too_large_to_be_sent_ends_the_session_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    bench.open("host")
    monkeypatch.setattr(room_module, "STATE_LIMIT_BYTES", 10)
    bench.room.resync("host")
    bench.settle()
    (frame,) = bench.frames("close")
    assert frame.close.reason == room_module.DIAGRAM_TOO_LARGE
    assert bench.room.is_finished


def test_commit_into_an_ended_session_ends_the_room() -> None:
    bench = Bench()
    bench.open("host")
    bench.sequencer.is_open = False
    bench.edit("host")
    assert bench.frames("close")
    assert not bench.frames("ack")


def test_poll_discovers_that_the_session_has_ended() -> None:
    bench = Bench()
    bench.open("host")
    bench.sequencer.is_open = False
    bench.room.poll()
    bench.settle()
    assert bench.frames("close")


def test_lost_stream_keeps_its_sockets_among_the_participants() -> None:
    bench = Bench()
    bench.open("host")
    bench.open("bob", link="other")
    bench.room.detach("other", bench.now)
    bench.settle()
    assert not bench.broadcasts()
    assert [participant.principal.provider_id for participant in bench.room.participants()] == ["host", "bob"]


def test_new_stream_of_a_gateway_replaces_its_old_one() -> None:
    bench = Bench()
    bench.open("host", "bob")
    bench.edit("bob")
    bench.effects.clear()
    bench.room.attach("new", "gateway-link", START_VECTOR, bench.now)
    for name in ("host", "bob"):
        bench.room.join("new", name, principal(name), bench.now, is_rejoin=True)
    bench.settle()
    assert [end.link for end in bench.of(effects.EndStream)] == ["link"]
    assert [frame.broadcast.update_vector for frame in bench.frames("broadcast", "new")][:1] == [START_VECTOR + 1]
    assert not bench.frames("state", "new")


def test_stream_that_is_behind_gets_what_it_misses_and_others_get_nothing_twice() -> None:
    bench = Bench()
    bench.open("host")
    for _ in range(3):
        bench.edit("host")
    bench.effects.clear()
    bench.room.attach("late", "gateway-late", START_VECTOR + 1, bench.now)
    bench.settle()
    numbered = [frame.broadcast for frame in bench.frames("broadcast", "late")]
    assert [broadcast.update_vector for broadcast in numbered] == [START_VECTOR + 2, START_VECTOR + 3]
    assert not bench.frames("broadcast")


def test_log_that_no_longer_reaches_back_makes_everybody_start_over() -> None:
    bench = Bench()
    bench.open("host")
    bench.room.log_read(
        START_VECTOR,
        sequencer.ReadOperationsResponse(update_vector=START_VECTOR + 50, complete=False, session_id=SESSION),
        bench.now,
    )
    bench.sequencer.vector = START_VECTOR + 50
    bench.settle()
    kinds = [frame.WhichOneof("frame") for frame in (e.frame for e in bench.of(effects.SendFrame))]
    assert kinds == ["rebase", "state", "direct"]
    assert bench.frames("state")[0].state.update_vector == START_VECTOR + 50


def test_message_of_an_unknown_socket_is_acknowledged_and_ignored() -> None:
    bench = Bench()
    bench.open("host")
    bench.edit("stranger")
    assert not bench.of(effects.CommitGroup)
    assert len(bench.frames("ack")) == 1


def test_sockets_of_one_user_are_probed_wherever_they_are() -> None:
    bench = Bench()
    bench.open("host", "bob")
    bench.room.attach("other", "other gateway", None, bench.now)
    bench.room.join("other", "second", principal("bob"), bench.now, is_rejoin=False)
    bench.settle()
    bench.room.probe(principal("bob").user_id)
    bench.settle()
    probed = [(link, frame.probe.socket_id) for link in ("link", "other") for frame in bench.frames("probe", link)]
    assert probed == [("link", "bob"), ("other", "second")]


def test_socket_that_is_taken_over_after_its_stream_started_over_is_given_its_state() -> None:
    bench = Bench()
    bench.sequencer.vector = START_VECTOR + 50
    bench.room.attach("link", "gateway", START_VECTOR, bench.now)
    assert [type(wish) for wish in bench.room.take_effects()] == [effects.ReadLog]
    bench.room.log_read(
        START_VECTOR,
        sequencer.ReadOperationsResponse(update_vector=START_VECTOR + 50, complete=False, session_id=SESSION),
        bench.now,
    )
    bench.settle()
    bench.effects.clear()
    bench.room.join("link", "bob", principal("bob"), bench.now, is_rejoin=True)
    bench.settle()
    assert [frame.state.socket_id for frame in bench.frames("state")] == ["bob"]


def test_roles_are_asked_for_again() -> None:
    bench = Bench()
    bench.open("host", "bob")
    bench.sequencer.readers = {"bob"}
    bench.room.recheck_access()
    bench.settle()
    roles = {entry["user"]["provider_id"]: entry["permissions"] for entry in bench.broadcasts()[-1]["participants"]}
    assert roles == {"host": "writer", "bob": "reader"}


def test_newcomer_is_not_given_a_snapshot_that_was_asked_for_before() -> None:
    """After a reload the page must show what its earlier socket has sent: as an event it would not be drawn."""
    bench = Bench()
    bench.open("host")
    bench.room.resync("host")
    assert [type(wish) for wish in bench.room.take_effects()] == [effects.FetchState]
    old = bench.sequencer.state()
    operation_id = bench.edit("host")
    bench.room.join("link", "reloaded", principal("host"), bench.now, is_rejoin=False)
    bench.room.state_fetched(old, bench.now)
    bench.settle()
    (state,) = [frame.state for frame in bench.frames("state") if frame.state.socket_id == "reloaded"]
    assert operation_id.encode() in state.text
    assert not state.following
