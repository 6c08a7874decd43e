"""What a room wants done by the shell around it."""

from dataclasses import dataclass

from services.collaboration.participants import ConnectedSocket
from tmi.collaboration.v1.relay_pb2 import RelayFrame
from tmi.collaboration.v1.rooms_pb2 import RoomFrame
from tmi.principal.v1.principal_pb2 import Principal
from tmi.threat_model.v1.sequencer_pb2 import OperationRequest


@dataclass(frozen=True, slots=True)
class SendFrame:
    """Write a frame to an attached stream, after all earlier ones."""

    link: str
    frame: RoomFrame


@dataclass(frozen=True, slots=True)
class EndStream:
    """End an attached stream, after all earlier frames."""

    link: str


@dataclass(frozen=True, slots=True)
class CommitGroup:
    """Commit operations, however long it takes, and report with `committed`."""

    operations: tuple[OperationRequest, ...]


@dataclass(frozen=True, slots=True)
class ReadLog:
    """Read the operation log and report with `log_read`."""

    after_vector: int


@dataclass(frozen=True, slots=True)
class FetchState:
    """Read the diagram and report with `state_fetched`."""


@dataclass(frozen=True, slots=True)
class CheckAccess:
    """Ask for the present roles and report with `access_checked`. principals: by socket id."""

    principals: tuple[tuple[str, Principal], ...]


@dataclass(frozen=True, slots=True)
class Publish:
    """Tell the other replicas."""

    frame: RelayFrame


@dataclass(frozen=True, slots=True)
class StorePresence:
    """Note a connected socket for all replicas, then tell them."""

    socket: ConnectedSocket


@dataclass(frozen=True, slots=True)
class RemovePresence:
    """Take a socket out of the shared presence unless another replica has it, then tell all."""

    socket: ConnectedSocket


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Call `tick` at this time (Unix seconds)."""

    time: float


@dataclass(frozen=True, slots=True)
class EndSession:
    """The host stayed away: close the session for all if the shared presence agrees."""

    reason: str


@dataclass(frozen=True, slots=True)
class TellSettled:
    """Tell who is ending the session that everything received here before has its outcome."""

    ending_id: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The room is done; drop it. The streams have been ended."""


Effect = (
    SendFrame
    | EndStream
    | CommitGroup
    | ReadLog
    | FetchState
    | CheckAccess
    | Publish
    | StorePresence
    | RemovePresence
    | WakeAt
    | EndSession
    | TellSettled
    | Finished
)
