"""Who takes part in a session: sockets of every replica, seen as users with a role."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from services.shared import rfc3339
from services.shared.principal import user_object
from tmi.principal.v1.principal_pb2 import Principal
from tmi.threat_model.v1.sequencer_pb2 import Role


@dataclass(slots=True)
class ConnectedSocket:
    """One socket, wherever it is connected. Times are Unix seconds."""

    socket_id: str
    principal: Principal
    role: "Role.ValueType"
    joined_at: float
    last_activity_at: float


@dataclass(frozen=True, slots=True)
class Participant:
    """A user with at least one socket in the session."""

    principal: Principal
    role: "Role.ValueType"
    last_activity_at: float

    def to_object(self) -> dict[str, Any]:
        """The Participant object of the contract."""
        return {
            "user": user_object(self.principal),
            "permissions": permissions(self.role),
            "last_activity": rfc3339.to_text(datetime.fromtimestamp(self.last_activity_at, UTC)),
        }


def permissions(role: "Role.ValueType") -> str:
    """`writer` or `reader`: owners write."""
    return "writer" if role >= Role.ROLE_WRITER else "reader"


def same_user(one: Principal, other: Principal) -> bool:
    """Compares internal ids where both are known, else provider and provider_id. Never emails."""
    if one.user_id and other.user_id:
        return one.user_id == other.user_id
    return (one.provider, one.provider_id) == (other.provider, other.provider_id)


def participants(sockets: Iterable[ConnectedSocket]) -> list[Participant]:
    """Each connected user once, in the order of joining, active when any of the user's sockets is."""
    by_user: dict[tuple[str, str], Participant] = {}
    for socket in sorted(sockets, key=lambda socket: (socket.joined_at, socket.socket_id)):
        key = (socket.principal.provider, socket.principal.provider_id)
        earlier = by_user.get(key)
        if earlier is None:
            by_user[key] = Participant(socket.principal, socket.role, socket.last_activity_at)
        else:
            by_user[key] = Participant(
                earlier.principal,
                max(earlier.role, socket.role),
                max(earlier.last_activity_at, socket.last_activity_at),
            )
    return list(by_user.values())
