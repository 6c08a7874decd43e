"""Telling the sockets of a room who takes part: participants_update, whenever the list has changed."""

from services.collaboration import messages
from services.collaboration.fanout import Fanout
from services.collaboration.presenting import Presenting
from services.collaboration.roster import Roster
from tmi.principal.v1.principal_pb2 import Principal
from tmi.threat_model.v1.sequencer_pb2 import Role


class Announcements:
    """Knows what was announced last, and which streams may have missed it."""

    def __init__(self, host: Principal, roster: Roster, fanout: Fanout, presenting: Presenting) -> None:
        self._host = host
        self._roster = roster
        self._fanout = fanout
        self._presenting = presenting
        self._announced: list[tuple[str, str, bool]] = []
        self._must_announce = False
        # Streams taken over: their sockets may have an older list of participants.
        self._uninformed: set[str] = set()

    def taken_over(self, link: str) -> None:
        """The sockets of this stream heard from another replica."""
        self._uninformed.add(link)

    def forget(self, link: str) -> None:
        """The stream has ended."""
        self._uninformed.discard(link)

    def announce(self, *, force: bool = False) -> None:
        """Sends participants_update when the list has changed, or always with `force`; waits for a complete list."""
        self._must_announce |= force
        if not self._roster.is_complete:
            return
        summary = [
            (participant.principal.provider, participant.principal.provider_id, participant.role >= Role.ROLE_WRITER)
            for participant in self._roster.participants()
        ]
        if self._must_announce or summary != self._announced:
            self._must_announce = False
            self._announced = summary
            self._uninformed.clear()
            self._fanout.broadcast(self.text())
        elif self._uninformed:
            self._fanout.broadcast(self.text(), only_links=self._uninformed)
            self._uninformed.clear()

    def text(self) -> bytes:
        """participants_update as of now."""
        return messages.participants_update(self._roster.participants(), self._host, self._presenting.presenter)
