"""The gateway's bookkeeping on its own."""

from collections.abc import Iterable

import pytest

from gateway.sockets.attachment import BATCH_BYTES, next_batch
from gateway.sockets.delivery import (
    QUEUE_BYTES,
    UNACKNOWLEDGED_BYTES,
    UNACKNOWLEDGED_MESSAGES,
    RoomDelivery,
    SocketDelivery,
)
from tests.collaboration.simulation import SESSION, principal
from tmi.collaboration.v1.rooms_pb2 import Ack, Broadcast, Close, Direct, GatewayFrame, Rebase, RoomFrame, Settle, State
from tmi.threat_model.v1.sequencer_pb2 import DiagramSession


def never(_: bytes) -> bool:
    return False


def room(limit: int = 4) -> RoomDelivery:
    return RoomDelivery(DiagramSession(session_id=SESSION), "gateway", limit)


def joined(delivery: RoomDelivery, name: str = "a", vector: int = 5) -> SocketDelivery:
    socket = delivery.join(name, principal(name), lambda: None, never, lambda: None)
    if delivery.vector is None:
        delivery.receive(RoomFrame(rebase=Rebase(update_vector=vector)))
    delivery.receive(RoomFrame(state=State(socket_id=name, text=b"state", update_vector=vector)))
    socket.queue.clear()
    delivery.outgoing.clear()
    return socket


def event(vector: int, except_socket_id: str = "") -> RoomFrame:
    text = f"event {vector}".encode()
    return RoomFrame(broadcast=Broadcast(text=text, except_socket_id=except_socket_id, update_vector=vector))


def kinds(frames: Iterable[GatewayFrame]) -> list[str | None]:
    return [frame.WhichOneof("frame") for frame in frames]


def test_socket_gets_nothing_before_its_state_and_then_only_later_events() -> None:
    delivery = room()
    joined(delivery, "a")
    socket = delivery.join("b", principal("b"), lambda: None, never, lambda: None)
    delivery.receive(event(6))
    delivery.receive(RoomFrame(broadcast=Broadcast(text=b"participants")))
    state = State(socket_id="b", text=b"state 7", following=[b"event 8"], update_vector=8)
    delivery.receive(RoomFrame(state=state))
    for vector in (7, 8, 9):
        delivery.receive(event(vector))
    assert list(socket.queue) == ["state 7", "event 8", "event 9"]


def test_sending_socket_is_left_out_and_the_vector_advances() -> None:
    delivery = room()
    one, two = joined(delivery, "a"), joined(delivery, "b")
    delivery.receive(event(6, "a"))
    assert (list(one.queue), list(two.queue), delivery.vector) == ([], ["event 6"], 6)


def test_broadcast_is_encoded_once_and_written_past_the_queue_only_where_that_cannot_wait() -> None:
    delivery = room()
    written: list[bytes] = []
    is_writable = True

    def write_now(frame: bytes) -> bool:
        if is_writable:
            written.append(frame)
        return is_writable

    sockets = [joined(delivery, name) for name in ("a", "b")]
    for socket in sockets:
        socket.write_now = write_now
    delivery.receive(event(6))
    assert written == [b"\x81\x07event 6"] * 2
    assert written[0] is written[1]
    sockets[0].push("direct")
    delivery.receive(event(7))
    assert list(sockets[0].queue) == ["direct", "event 7"], "nothing overtakes what is queued"
    assert written[2:] == [b"\x81\x07event 7"]
    is_writable = False
    delivery.receive(event(8))
    assert [socket.queue[-1] for socket in sockets] == ["event 8", "event 8"]


def test_event_delivered_before_is_dropped() -> None:
    delivery = room()
    socket = joined(delivery)
    for vector in (6, 6, 5):
        delivery.receive(event(vector))
    assert list(socket.queue) == ["event 6"]


def test_gap_makes_every_socket_ask_for_its_state() -> None:
    delivery = room()
    socket = joined(delivery)
    delivery.receive(event(8))
    assert kinds(delivery.outgoing) == ["resync"]
    assert not socket.queue
    assert not socket.is_synced


def test_slow_consumer_starts_over_from_a_state() -> None:
    delivery = room(limit=4)
    socket = joined(delivery)
    for vector in range(6, 11):
        delivery.receive(event(vector))
    assert not socket.queue
    assert kinds(delivery.outgoing) == ["resync"]
    delivery.receive(event(11))
    assert not socket.queue, "events make no sense before the state"
    delivery.receive(RoomFrame(state=State(socket_id="a", text=b"state", update_vector=11)))
    delivery.receive(event(12))
    assert list(socket.queue) == ["state", "event 12"]


def test_slow_consumer_that_does_not_catch_up_is_closed() -> None:
    delivery = room(limit=4)
    socket = joined(delivery)
    for vector in range(6, 11):
        delivery.receive(event(vector))
    delivery.receive(RoomFrame(state=State(socket_id="a", text=b"state", update_vector=10)))
    for vector in range(11, 16):
        delivery.receive(event(vector))
    assert socket.closing == (4408, "too slow")


def test_consumer_that_caught_up_gets_another_chance() -> None:
    delivery = room(limit=4)
    socket = joined(delivery)
    for vector in range(6, 11):
        delivery.receive(event(vector))
    delivery.receive(RoomFrame(state=State(socket_id="a", text=b"state", update_vector=10)))
    socket.queue.clear()
    socket.drained()
    for vector in range(11, 16):
        delivery.receive(event(vector))
    assert socket.closing is None


def test_state_for_a_full_queue_replaces_it() -> None:
    delivery = room(limit=4)
    socket = joined(delivery)
    delivery.receive(RoomFrame(rebase=Rebase(update_vector=20)))
    for _ in range(4):
        delivery.receive(RoomFrame(direct=Direct(socket_id="a", text=b"direct")))
    delivery.receive(RoomFrame(state=State(socket_id="a", text=b"state", update_vector=20)))
    assert list(socket.queue) == ["state"]
    assert socket.is_synced


def test_volatile_messages_are_dropped_first() -> None:
    delivery = room(limit=16)
    socket = joined(delivery)
    for _ in range(10):
        delivery.receive(RoomFrame(broadcast=Broadcast(text=b"cursor", is_volatile=True)))
    assert len(socket.queue) == 3
    delivery.receive(event(6))
    assert socket.queue[-1] == "event 6"


def test_reattached_stream_opens_with_the_vector_and_repeats_what_is_not_settled() -> None:
    delivery = room()
    socket = joined(delivery)
    delivery.receive(event(6))
    for text in (b"one", b"two", b"three"):
        delivery.message(socket, text)
    delivery.receive(RoomFrame(ack=Ack(socket_id="a", number=2)))
    frames = delivery.reattach()
    assert kinds(frames) == ["open", "join", "message", "message"]
    assert frames[0].open.delivered_vector == 6
    assert frames[1].join.rejoin
    assert [frame.message.text for frame in frames[2:]] == [b"one", b"three"]
    assert not delivery.outgoing


def test_reattached_stream_asks_for_missing_states() -> None:
    delivery = room()
    joined(delivery, "a").is_synced = False
    delivery.join("b", principal("b"), lambda: None, never, lambda: None)
    frames = delivery.reattach()
    assert kinds(frames) == ["open", "join", "resync", "join"]
    assert [frame.join.rejoin for frame in frames if frame.HasField("join")] == [True, False]


def test_what_a_socket_sent_before_it_left_is_still_settled() -> None:
    delivery = room()
    socket = joined(delivery)
    delivery.message(socket, b"last words")
    delivery.leave(socket)
    assert not delivery.is_idle
    assert kinds(delivery.reattach()) == ["open", "join", "message", "leave"]
    delivery.receive(event(6))
    assert not socket.queue
    for number in (1, 2):
        delivery.receive(RoomFrame(ack=Ack(socket_id="a", number=number)))
    assert delivery.is_idle


@pytest.mark.parametrize(
    ("text", "limit"), [(b"x", UNACKNOWLEDGED_MESSAGES), (b"x" * 1024 * 1024, UNACKNOWLEDGED_BYTES // 1024 // 1024)]
)
def test_client_that_sends_faster_than_it_is_answered_is_not_read(text: bytes, limit: int) -> None:
    delivery = room()
    socket = joined(delivery)
    while socket.can_send_more:
        delivery.message(socket, text)
    assert len(socket.unacknowledged) == limit
    after = []
    for _ in range(2):  # an acknowledgement counts once
        delivery.receive(RoomFrame(ack=Ack(socket_id="a", number=1)))
        after.append(socket.can_send_more)
    delivery.message(socket, text)
    assert [*after, socket.can_send_more] == [True, True, False]


def test_end_of_the_session_closes_every_socket_after_its_last_text() -> None:
    delivery = room()
    sockets = [joined(delivery, "a"), joined(delivery, "b")]
    delivery.receive(RoomFrame(close=Close(code=1000, reason="over", last_text=b"goodbye")))
    assert delivery.is_closed
    for socket in sockets:
        assert (list(socket.queue), socket.closing) == (["goodbye"], (1000, "over"))
        delivery.leave(socket)
    assert delivery.is_idle


def test_leave_is_repeated_as_long_as_anything_before_it_is() -> None:
    """Or the next replica would have a socket that never leaves."""
    delivery = room()
    socket = joined(delivery)
    delivery.message(socket, b"x")
    delivery.leave(socket)
    delivery.receive(RoomFrame(ack=Ack(socket_id="a", number=2)))
    assert kinds(delivery.reattach()) == ["open", "join", "message", "leave"]
    assert not delivery.is_idle
    for number in (1, 2):
        delivery.receive(RoomFrame(ack=Ack(socket_id="a", number=number)))
    assert delivery.is_idle


def test_socket_that_joins_when_the_session_has_ended_is_closed_like_the_others() -> None:
    delivery = room()
    joined(delivery)
    delivery.receive(RoomFrame(close=Close(code=1000, reason="over", last_text=b"end")))
    late = delivery.join("late", principal("late"), lambda: None, never, lambda: None)
    assert (late.closing, list(late.queue)) == ((1000, "over"), ["end"])
    assert delivery.is_idle


def test_few_large_texts_make_a_slow_consumer_too() -> None:
    delivery = room(limit=100)
    socket = joined(delivery)
    large = b"x" * (QUEUE_BYTES // 2)
    for vector in (6, 7):
        delivery.receive(RoomFrame(broadcast=Broadcast(text=large, update_vector=vector)))
    assert kinds(delivery.outgoing) == []
    socket.take()
    delivery.receive(event(8))
    assert len(socket.queue) == 2
    delivery.receive(RoomFrame(broadcast=Broadcast(text=large, update_vector=9)))
    delivery.receive(event(10))
    assert kinds(delivery.outgoing) == ["resync"]
    assert (len(socket.queue), socket.queued_bytes) == (0, 0)


def test_session_about_to_end_is_answered_behind_everything_that_was_sent() -> None:
    delivery = room()
    socket = joined(delivery)
    delivery.message(socket, b"x")
    delivery.receive(RoomFrame(settle=Settle(ending_id="ending")))
    assert kinds(delivery.outgoing) == ["message", "settled"]
    assert delivery.outgoing[-1].settled.ending_id == "ending"


def test_one_socket_is_closed_and_the_others_stay() -> None:
    delivery = room()
    one, two = joined(delivery, "a"), joined(delivery, "b")
    delivery.receive(RoomFrame(close=Close(socket_id="a", code=4403, reason="access revoked")))
    assert (one.closing, two.closing) == ((4403, "access revoked"), None)
    one.push("more")
    assert not one.queue


def test_frames_for_unknown_sockets_are_ignored() -> None:
    delivery = room()
    joined(delivery)
    for frame in (
        RoomFrame(direct=Direct(socket_id="x", text=b"t")),
        RoomFrame(state=State(socket_id="x", text=b"t")),
        RoomFrame(ack=Ack(socket_id="x", number=1)),
        RoomFrame(close=Close(socket_id="x", code=1000)),
    ):
        delivery.receive(frame)
    assert not delivery.outgoing


def test_frames_are_sent_in_batches_that_one_message_can_carry() -> None:
    delivery = room()
    socket = joined(delivery)
    sizes = [10] * 70 + [BATCH_BYTES // 2, BATCH_BYTES // 2, 2 * BATCH_BYTES, 10]
    for size in sizes:
        delivery.message(socket, b"x" * size)
    batches = []
    while batch := next_batch(delivery.outgoing):
        batches.append([len(frame.message.text) for frame in batch])
    assert [size for batch in batches for size in batch] == sizes
    assert [len(batch) for batch in batches] == [64, 7, 1, 1, 1]
