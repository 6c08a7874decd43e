"""What keeps the service from starting: a declaration that would serve something else than it says."""

from dataclasses import replace
from typing import Any

import pytest

from services.shared.startup import CannotStart
from services.threat_model.people.copies import Principals
from services.threat_model.resources.binding import bind
from services.threat_model.resources.declaration import Registry
from services.threat_model.resources.owners import Owners
from services.threat_model.resources.rows import Rows
from services.threat_model.service import families
from tests.protos import with_rpc

ABSENT: Any = None
"""For databases and directories that nothing is asked of."""


def test_a_path_with_the_id_of_something_else_is_not_taken_for_the_root() -> None:
    (family,) = families(Principals(ABSENT, ABSENT))
    registry = Registry([family.root, *family.children])
    rows = [Rows(resource, registry) for resource in registry.resources]
    file = with_rpc(
        'get: "/threat_models/{threat_model_id}/notes/{note_id}/metadata"',
        "access: ACCESS_READER",
        request="string threat_model_id = 1; string note_id = 2;",
    )
    (service,) = file.services_by_name.values()
    with pytest.raises(CannotStart, match="note_id"):
        Owners(rows, service)


def test_every_resource_needs_a_grpc_service() -> None:
    (family,) = families(Principals(ABSENT, ABSENT))
    services = {kind: service for kind, service in family.services.items() if kind != "asset"}
    with pytest.raises(CannotStart, match="asset"):
        bind([replace(family, services=services)], ABSENT, require_if_match=False)
