"""The verdict over the logs of everybody who was at a diagram."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from deploy.demo.diagram import Cell, Diagram
from deploy.demo.editor import Editor


@dataclass(frozen=True)
class Verdict:
    """Counts over the operations of all editors; all clear when nothing is wrong."""

    sent: int
    refused: int
    accepted: int
    lost: int
    duplicated: int
    out_of_order: int
    sockets_closed: int
    screens_equal: bool
    equal_to_rest: bool

    @property
    def all_clear(self) -> bool:
        """True when every operation is where it belongs, once, on every screen and in the database."""
        wrong = self.refused + self.lost + self.duplicated + self.out_of_order + self.sockets_closed
        return wrong == 0 and self.sent == self.accepted and self.screens_equal and self.equal_to_rest


def check(
    editors: Sequence[Editor], witness: Editor, start_vector: int, rest_vector: int, rest_cells: Sequence[Cell]
) -> Verdict:
    """Judges the end of a session in which only `editors` wrote.

    witness: a socket that sent nothing and so was sent everything. start_vector: the diagram's
    update_vector before the first operation. rest_vector, rest_cells: the diagram as REST answers it.
    accepted is what the database counts: update_vector grows by one for each.
    """
    sent = {operation_id for editor in editors for operation_id, _ in editor.log.sent}
    refused = {operation_id for editor in editors for operation_id in editor.log.refused}
    seen = Counter(event["operation_id"] for event in witness.log.events)
    vectors = [event["update_vector"] for event in witness.log.events]
    accepted = rest_vector - start_vector
    # A diagram_state in between stands for the events that it contains.
    resynchronised = len(witness.log.states) > 1
    unseen = len(sent) - len(refused) - accepted if resynchronised else len(sent - refused - set(seen))
    steps = [after - before for before, after in pairwise(vectors)]
    screens = [editor.log.screen() for editor in (*editors, witness)]
    return Verdict(
        sent=len(sent),
        refused=len(refused),
        accepted=accepted,
        lost=max(0, unseen),
        duplicated=sum(count - 1 for count in seen.values()) + max(0, accepted - len(sent)),
        out_of_order=sum(1 for step in steps if step < 1 or (step > 1 and not resynchronised)),
        sockets_closed=sum(1 for editor in (*editors, witness) if editor.log.close_code is not None),
        screens_equal=all(screen == screens[0] for screen in screens),
        equal_to_rest=screens[0] == Diagram(rest_cells).cells(),
    )
