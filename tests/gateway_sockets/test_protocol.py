"""Frames made once for many sockets."""

import pytest

from gateway.sockets.protocol import RoomWebSocketProtocol, frame_writer, text_frame
from services.shared.settings import Settings
from tests.collaboration.stack import running

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("length", "head"),
    [(125, b"\x81\x7d"), (126, b"\x81\x7e\x00\x7e"), (65536, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00")],
)
def test_frame_is_whole_unmasked_text(length: int, head: bytes) -> None:
    text = b"x" * length
    assert text_frame(text) == head + text


def test_nothing_is_written_past_the_queue_under_a_server_without_the_extension() -> None:
    assert not frame_writer({"type": "websocket"})(text_frame(b"event"))


async def test_broadcast_is_one_frame_for_all_and_refused_frames_take_the_queue(
    collaboration_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bytes] = []
    refusing: list[bool] = []
    write_frame = RoomWebSocketProtocol.write_frame

    def watched(protocol: RoomWebSocketProtocol, frame: bytes) -> bool:
        if refusing or not write_frame(protocol, frame):
            return False
        written.append(frame)
        return True

    monkeypatch.setattr(RoomWebSocketProtocol, "write_frame", watched)
    async with running(collaboration_settings, replicas=1) as stack:
        await stack.open_session()
        alice, bob, carol = [await stack.connect(name) for name in ("alice", "bob", "carol")]
        first = await alice.edit("6f9619ff-8b86-4d01-b42d-00cf4fc964ff")
        for client in (bob, carol):
            assert (await client.receive("diagram_operation_event"))["operation_id"] == first
        events = [frame for frame in written if first.encode() in frame]
        assert len(events) == 2
        assert events[0] is events[1]
        refusing.append(True)
        second = await alice.edit("6f9619ff-8b86-4d01-b42d-00cf4fc964ff", operation="update")
        for client in (bob, carol):
            assert (await client.receive("diagram_operation_event", 2))["operation_id"] == second
        assert len([frame for frame in written if second.encode() in frame]) == 0


async def test_closed_connection_refuses_frames(
    collaboration_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    protocols: list[RoomWebSocketProtocol] = []
    shutdown = RoomWebSocketProtocol.connection_lost

    def watched(protocol: RoomWebSocketProtocol, error: Exception | None) -> None:
        shutdown(protocol, error)
        protocols.append(protocol)

    monkeypatch.setattr(RoomWebSocketProtocol, "connection_lost", watched)
    async with running(collaboration_settings, replicas=1) as stack:
        await stack.open_session()
        alice = await stack.connect("alice")
        await alice.close()
    assert protocols
    assert not any(protocol.write_frame(text_frame(b"late")) for protocol in protocols)
