"""Who was overtaken is sent what is stored, and nobody else is sent anything twice."""

from uuid import UUID, uuid4

import pytest

from services.collaboration import corrections, effects
from services.collaboration.corrections import CROSSING_SECONDS, GATHERING_SECONDS, LONGEST_WAIT_SECONDS, QUIET_SECONDS
from services.collaboration.fanout import HISTORY_OPERATIONS
from tests.collaboration.simulation import START_VECTOR, principal
from tests.collaboration.test_room import Bench, operation


def overtaken() -> tuple[Bench, str]:
    """Bob has drawn on what he saw at the start; the host was faster. Answers the id of Bob's operation."""
    bench = Bench()
    bench.open("host", "bob", "carol")
    bench.edit("host")
    return bench, bench.edit("bob", base=START_VECTOR)


def acknowledged(bench: Bench) -> list[str]:
    return [frame.ack.socket_id for frame in bench.frames("ack")]


def test_overtaken_sender_is_sent_the_stored_cell_as_an_event_of_who_overtook_it() -> None:
    bench, operation_id = overtaken()
    assert (bench.directs("bob"), acknowledged(bench)) == ([], ["host"]), "after a pause, and not settled before"
    bench.pass_time(QUIET_SECONDS)
    (event,) = bench.directs("bob")
    assert event["message_type"] == "diagram_operation_event"
    assert event["initiating_user"]["email"] == principal("host").email
    assert (event["update_vector"], event["sequence_number"]) == (START_VECTOR + 2, 2)
    assert event["operation"]["cells"] == [{"id": "cell", "operation": "update", "data": operation_id}]
    assert UUID(event["operation_id"]).version == 5
    assert event["operation_id"] not in bench.sequencer.by_id
    assert acknowledged(bench) == ["host", "bob"]
    assert not bench.directs("host")
    assert not bench.directs("carol")
    bench.pass_time(LONGEST_WAIT_SECONDS)
    assert len(bench.directs("bob")) == 1


@pytest.mark.parametrize("cell", ["cell", "another"])
def test_sender_who_had_seen_everything_on_its_cells_is_sent_nothing(cell: str) -> None:
    bench = Bench()
    bench.open("host", "bob")
    bench.edit("host")
    bench.pass_time(GATHERING_SECONDS)
    bench.edit("bob", cell=cell, base=START_VECTOR + (cell == "cell"))
    bench.pass_time(LONGEST_WAIT_SECONDS)
    assert bench.directs("bob") == []
    assert acknowledged(bench) == ["host", "bob"]


def test_base_vector_proves_nothing_while_the_client_may_still_have_gathered() -> None:
    """It names the vector of the end of the time in which it gathers what is drawn."""
    bench = Bench()
    bench.open("host", "bob")
    bench.edit("host")
    bench.now += GATHERING_SECONDS / 2
    operation_id = bench.edit("bob", base=START_VECTOR + 1)
    bench.pass_time(QUIET_SECONDS)
    assert [event["operation"]["cells"][0]["data"] for event in bench.directs("bob")] == [operation_id]


def test_base_vector_that_cannot_be_means_what_was_delivered() -> None:
    for base in (START_VECTOR - 1, START_VECTOR + 9):
        bench = Bench()
        bench.open("host", "bob")
        bench.edit("host")
        bench.pass_time(GATHERING_SECONDS)
        bench.edit("bob", base=base)
        bench.pass_time(LONGEST_WAIT_SECONDS)
        assert bench.directs("bob") == []


def test_later_event_on_the_cell_takes_the_place_of_the_correction() -> None:
    bench, _ = overtaken()
    bench.now += GATHERING_SECONDS  # no tick before
    bench.edit("carol")
    assert sorted(acknowledged(bench)) == ["bob", "carol", "host"]
    bench.pass_time(LONGEST_WAIT_SECONDS)
    assert bench.directs("bob") == []


def test_correction_waits_for_a_pause_but_not_for_ever() -> None:
    bench, _ = overtaken()
    for _ in range(10):
        bench.pass_time(QUIET_SECONDS / 2)
        last = bench.edit("bob")
        assert not bench.directs("bob")
    bench.pass_time(LONGEST_WAIT_SECONDS - 5 * QUIET_SECONDS)
    (event,) = bench.directs("bob")
    assert event["operation"]["cells"][0]["data"] == last
    assert acknowledged(bench).count("bob") == 11


def test_edit_that_crosses_a_correction_is_corrected_again() -> None:
    bench, _ = overtaken()
    bench.pass_time(QUIET_SECONDS)
    crossing = bench.edit("bob", base=START_VECTOR + 1)
    bench.pass_time(QUIET_SECONDS)
    assert [event["operation"]["cells"][0]["data"] for event in bench.directs("bob")][1:] == [crossing]
    bench.pass_time(GATHERING_SECONDS)
    bench.edit("bob", base=START_VECTOR + 3)
    bench.pass_time(LONGEST_WAIT_SECONDS)
    assert len(bench.directs("bob")) == 2, "the correction's vector shows that it was drawn"


@pytest.mark.parametrize(("seconds", "corrections"), [(0, 2), (CROSSING_SECONDS, 1)])
def test_correction_behind_a_later_event_counts_as_drawn_after_a_while(seconds: float, corrections: int) -> None:
    bench, _ = overtaken()
    bench.edit("host", cell="another")
    bench.pass_time(QUIET_SECONDS)
    bench.pass_time(seconds)
    bench.edit("bob", base=START_VECTOR + 3)
    bench.pass_time(LONGEST_WAIT_SECONDS)
    assert len(bench.directs("bob")) == corrections


def test_repeated_operation_is_judged_by_the_replica_that_takes_over() -> None:
    bench, operation_id = overtaken()
    other = Bench()
    other.sequencer = bench.sequencer
    other.room.attach("link", "gateway", START_VECTOR + 2, other.now)
    other.settle()
    other.room.join("link", "bob", principal("bob"), other.now, is_rejoin=True)
    other.edit("bob", operation_id=operation_id, base=START_VECTOR)
    assert acknowledged(other) == []
    other.pass_time(QUIET_SECONDS)
    assert [event["operation"]["cells"][0]["data"] for event in other.directs("bob")] == [operation_id]
    assert acknowledged(other) == ["bob"]


def test_replica_that_takes_over_knows_the_operations_before() -> None:
    bench = Bench()
    bench.open("host")
    for _ in range(HISTORY_OPERATIONS + 10):
        bench.edit("host")
    other = Bench()
    other.sequencer = bench.sequencer
    other.room.attach("link", "gateway", bench.sequencer.vector, other.now)
    other.settle()
    assert other.of(effects.ReadLog)[0].after_vector == START_VECTOR + 10
    assert not other.frames("broadcast"), "nothing is sent twice"


def test_state_that_lacks_an_edit_is_followed_by_one_that_has_it() -> None:
    """Alone in the session there is nobody whose event the client would draw."""
    bench = Bench()
    bench.open("host")
    bench.room.resync("host")
    assert [type(wish) for wish in bench.room.take_effects()] == [effects.FetchState]
    old = bench.sequencer.state()
    bench.edit("host")
    bench.room.state_fetched(old, bench.now)
    bench.settle()
    bench.pass_time(QUIET_SECONDS)
    assert [frame.state.update_vector for frame in bench.frames("state")] == [START_VECTOR + 1, START_VECTOR + 1]
    assert b"cell" in bench.frames("state")[-1].state.text


def test_what_a_socket_that_leaves_is_owed_is_settled() -> None:
    bench, _ = overtaken()
    bench.room.leave("link", "bob", 9, bench.now)
    bench.settle()
    assert acknowledged(bench) == ["host", "bob", "bob"]
    bench.pass_time(LONGEST_WAIT_SECONDS)
    assert bench.directs("bob") == []


def test_labels_of_edges_stay_out_of_corrections() -> None:
    """The web client clears an edge's label at any update of the edge, and has its own."""
    edge = {
        "id": "edge",
        "shape": "flow",
        "source": {"cell": "a"},
        "target": {"cell": "b"},
        "labels": [{"position": 1}],
    }
    node = {"id": "node", "shape": "process", "labels": "a node has none"}
    bench = Bench()
    bench.open("host", "bob")
    for sender, base in (("host", None), ("bob", START_VECTOR)):
        message = operation(str(uuid4()), base_vector=base)
        message["operation"]["cells"] = [
            {"id": cell["id"], "operation": "update", "data": cell} for cell in (edge, node)
        ]
        bench.say(sender, message)
    bench.pass_time(QUIET_SECONDS)
    (event,) = bench.directs("bob")
    shown = {change["id"]: change["data"] for change in event["operation"]["cells"]}
    assert shown == {"edge": {key: value for key, value in edge.items() if key != "labels"}, "node": node}


def test_history_is_bounded_and_who_draws_on_what_is_forgotten_is_corrected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corrections, "HISTORY_CELLS", 4)
    monkeypatch.setattr(corrections, "RECENT_CELLS", 2)
    bench = Bench()
    bench.open("host", "bob")
    for number in range(6):
        bench.edit("host", cell=f"cell {number}")
    for base, count in ((START_VECTOR + 6, 0), (START_VECTOR, 1)):
        bench.edit("bob", cell="new", base=base)
        bench.pass_time(LONGEST_WAIT_SECONDS)
        assert len(bench.directs("bob")) == count
