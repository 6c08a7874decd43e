"""The scope of a threat model and of everything below it."""

from sqlalchemy import select

from services.shared.errors import not_found
from services.threat_model.access import roles
from services.threat_model.access.tables import threat_model_access, threat_models
from services.threat_model.resources.declaration import Scope

THREAT_MODEL = Scope(
    root=threat_models,
    id_field="threat_model_id",
    path="/threat_models",
    live=threat_models.c.deleted_at.is_(None),
    role=roles.role_on(threat_models.c.id),
    visible=threat_models.c.id.in_(select(threat_model_access.c.threat_model_id).where(roles.is_callers())),
    missing=lambda: not_found("There is no such threat model."),
)
