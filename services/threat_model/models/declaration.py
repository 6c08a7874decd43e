"""The declaration of threat models, the roots of every review."""

from collections.abc import Sequence

from services.threat_model.access.tables import threat_models
from services.threat_model.models.bodies import PatchedThreatModel, ThreatModelBody, ThreatModelReplacement
from services.threat_model.models.documents import MEMBERS, list_members
from services.threat_model.models.filters import FILTERS
from services.threat_model.models.rules import PEOPLE, ThreatModelRules
from services.threat_model.models.scope import THREAT_MODEL
from services.threat_model.people.copies import Principals
from services.threat_model.resources import filters
from services.threat_model.resources.declaration import Resource
from services.threat_model.resources.embedding import embedded


def threat_model(children: Sequence[Resource], people: Principals) -> Resource:
    """The declaration, with the kinds of children whose rows its documents hold or count."""
    return Resource(
        kind="threat_model",
        name="ThreatModel",
        plural="threat_models",
        table=threat_models,
        scope=THREAT_MODEL,
        in_parent=None,
        members=MEMBERS,
        embedded=embedded(children),
        list_members=list_members(children),
        create_body=ThreatModelBody,
        replace_body=ThreatModelReplacement,
        patch_body=PatchedThreatModel,
        filters=FILTERS,
        sort_keys={**filters.sort_keys(threat_models), "status": threat_models.c.status},
        default_order=(threat_models.c.created_at.desc(),),
        left_alone=frozenset({"metadata", "authorization"}),
        together=PEOPLE,
        rules=ThreatModelRules(people),
    )
