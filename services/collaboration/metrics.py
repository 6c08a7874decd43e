"""What an operator scales the collaboration replicas by."""

from prometheus_client import Counter, Gauge

from tmi.threat_model.v1.sequencer_pb2 import CommitOperationsResponse, Outcome

ROOMS = Gauge("tmi_collaboration_rooms", "Sessions that this replica has a room for.")
SOCKETS = Gauge("tmi_collaboration_sockets", "Sockets whose gateways are attached to this replica.")
OPERATIONS = Counter("tmi_collaboration_operations_total", "Diagram operations by outcome.", ["outcome"])

_OUTCOMES = {
    outcome: OPERATIONS.labels(Outcome.Name(outcome).removeprefix("OUTCOME_").lower())
    for outcome in Outcome.values()
    if outcome != Outcome.OUTCOME_UNSPECIFIED
}


def count(response: CommitOperationsResponse) -> None:
    """Counts the operations of a committed group."""
    for result in response.results:
        _OUTCOMES[result.outcome].inc()
