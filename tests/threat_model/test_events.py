from services.threat_model.audit.events import SUBSCRIBABLE
from services.threat_model.service import CHILDREN


def test_every_kind_of_sub_resource_can_be_subscribed_to() -> None:
    kinds = {"threat_model", *(resource.kind for resource in CHILDREN)}
    changes = {f"{kind}.{action}" for kind in kinds for action in ("created", "updated", "deleted")}
    assert changes <= SUBSCRIBABLE
