"""Every HTTP operation of the service against every relation of a caller to a threat model.

Generated from the descriptors: an operation that is added is covered without a change here.
"""

from typing import Any

import orjson
import pytest

from services.shared.access import OWNER, READER, WRITER
from services.shared.errors import ApiError
from services.shared.operations import HttpOperation, http_operations
from services.threat_model.service import CHILDREN
from tests import examples
from tests.threat_model.api import OPERATIONS, Api, new_user
from tests.threat_model.test_assets import asset
from tests.threat_model.test_authorization_list import entry, known

ALL = [operation for operation in http_operations() if operation.service == "threat_model"]
ON_A_THREAT_MODEL = [operation for operation in ALL if operation.requirement.role]
ON_A_CHILD = [
    (operation, resource)
    for operation in ON_A_THREAT_MODEL
    for resource in CHILDREN
    if resource.id_field in operation.path_parameters
]


def name(operation: HttpOperation) -> str:
    return operation.operation_id


def call(api: Api, operation: HttpOperation, fields: dict[str, str]) -> int:
    """Status of the operation with a body that is right."""
    named: dict[str, Any] = {name: fields.get(name) or examples.PATH_VALUES[name] for name in operation.path_parameters}
    body = examples.body(operation)
    if operation.method.name.startswith("Bulk") and not operation.path.endswith("/metadata/bulk"):
        # Names rows of the collection in its body or query.
        existing = fields[operation.path.split("/")[3].removesuffix("s") + "_id"]
        body = orjson.loads(orjson.dumps(body).replace(examples.PATH_VALUES["threat_id"].encode(), existing.encode()))
        named |= {name: [existing] for name in examples.query(operation)}
    try:
        return api.call(operation, body, **named).status
    except ApiError as error:
        return error.status


def children(api: Api, tm: str) -> dict[str, str]:
    """A child of each kind; all have an entry of metadata under the key of the examples, and so has the model."""
    fields = {"threat_id": api.threat(tm)["id"], "diagram_id": api.diagram(tm)["id"], "asset_id": asset(api, tm)["id"]}
    for owner in ({}, *({field: id_} for field, id_ in fields.items())):
        api.CreateMetadata({"key": examples.PATH_VALUES["key"], "value": "x"}, threat_model_id=tm, **owner)
    return {"threat_model_id": tm} | fields


def prepare(api: Api, operation: HttpOperation, fields: dict[str, str]) -> None:
    """What can be restored is deleted."""
    if operation.method.name == "Restore":
        deletion = next(
            each for each in ALL if each.verb == "DELETE" and each.path == operation.path.removesuffix("/restore")
        )
        assert call(api, deletion, fields) == 204


def test_there_is_something_to_check() -> None:
    assert {name(operation) for operation in ON_A_THREAT_MODEL} >= {"getThreatModel", "patchThreat", "deleteDiagram"}
    assert {resource.id_field for _, resource in ON_A_CHILD} == {resource.id_field for resource in CHILDREN}
    assert all(operation.requirement.authenticated for operation in ALL)
    for operation in ALL:
        if "threat_model_id" in operation.path_parameters:
            assert operation.requirement.role or operation.requirement.automation, name(operation)


@pytest.mark.parametrize("operation", ON_A_THREAT_MODEL, ids=name)
def test_a_stranger_is_refused(api: Api, operation: HttpOperation) -> None:
    fields = children(api, api.new_threat_model()["id"])
    prepare(api, operation, fields)
    assert call(api.as_caller(new_user()), operation, fields) == 403


@pytest.mark.parametrize("operation", ON_A_THREAT_MODEL, ids=name)
def test_an_administrator_has_nothing_implicitly(api: Api, operation: HttpOperation) -> None:
    fields = children(api, api.new_threat_model()["id"])
    prepare(api, operation, fields)
    assert call(api.as_caller(new_user(is_administrator=True)), operation, fields) == 403


@pytest.mark.parametrize("operation", ON_A_THREAT_MODEL, ids=name)
@pytest.mark.parametrize("role", [READER, WRITER, OWNER])
def test_a_role_allows_what_the_operation_declares(api: Api, operation: HttpOperation, role: int) -> None:
    somebody = known(api, "somebody")
    role_name = {READER: "reader", WRITER: "writer", OWNER: "owner"}[role]
    tm = api.new_threat_model(authorization=[entry(somebody, role_name)])["id"]
    fields = children(api, tm)
    prepare(api, operation, fields)
    status = call(api.as_caller(somebody), operation, fields)
    allowed = role >= operation.requirement.role
    assert status == (operation.success_status if allowed else 403)


RESTORATION = "restoreThreatModel"
"""The one operation that a deleted threat model still has."""


@pytest.mark.parametrize("operation", [each for each in ON_A_THREAT_MODEL if name(each) != RESTORATION], ids=name)
def test_a_deleted_threat_model_is_unknown_even_to_its_owner(api: Api, operation: HttpOperation) -> None:
    tm = api.new_threat_model()["id"]
    fields = children(api, tm)
    api.DeleteThreatModel(threat_model_id=tm)
    assert call(api, operation, fields) == 404
    assert call(api.as_caller(new_user()), operation, fields) == 404


@pytest.mark.parametrize("operation", ON_A_THREAT_MODEL, ids=name)
def test_an_unknown_threat_model(api: Api, operation: HttpOperation) -> None:
    fields = children(api, api.new_threat_model()["id"])
    assert call(api, operation, fields | {"threat_model_id": "6d5ef7b2-0000-4000-8000-0000000000ee"}) == 404


@pytest.mark.parametrize(("operation", "resource"), ON_A_CHILD, ids=lambda value: getattr(value, "kind", None))
def test_a_child_is_reached_through_its_own_parent_only(api: Api, operation: HttpOperation, resource: Any) -> None:
    own, other = children(api, api.new_threat_model()["id"]), children(api, api.new_threat_model()["id"])
    assert call(api, operation, own | {resource.id_field: other[resource.id_field]}) == 404
    assert call(api, operation, own | {resource.id_field: "6d5ef7b2-0000-4000-8000-0000000000ee"}) == 404
    assert call(api.as_caller(new_user()), operation, own | {resource.id_field: other[resource.id_field]}) == 403


@pytest.mark.parametrize(("operation", "resource"), ON_A_CHILD, ids=lambda value: getattr(value, "kind", None))
def test_a_deleted_child_is_gone(api: Api, operation: HttpOperation, resource: Any) -> None:
    fields = children(api, api.new_threat_model()["id"])
    assert call(api, OPERATIONS[f"Delete{resource.name}"], fields) == 204
    assert call(api, operation, fields) == (200 if operation.method.name == "Restore" else 404)
