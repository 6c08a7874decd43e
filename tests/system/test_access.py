"""Who may call what: every operation that the descriptors declare, for every kind of caller."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from deploy.demo.client import Person
from services.shared.access import Requirement
from services.shared.operations import HttpOperation, http_operations
from tests import examples
from tests.system.conftest import LogIn, entry, model_with_diagram

pytestmark = pytest.mark.anyio

_OPERATIONS = list(http_operations())


def _name(operation: HttpOperation) -> str:
    return f"{operation.verb} {operation.path}"


def _those(condition: Callable[[Requirement], bool]) -> list[Any]:
    return [pytest.param(each, id=_name(each)) for each in _OPERATIONS if condition(each.requirement)]


async def _call(person: Person | None, gateway: str, operation: HttpOperation, path: str) -> httpx.Response:
    content, headers = examples.content(operation)
    if person:
        headers["Authorization"] = f"Bearer {person.access_token}"
    async with httpx.AsyncClient(base_url=gateway, trust_env=False) as client:
        return await client.request(
            operation.verb, path, params=examples.query(operation), content=content, headers=headers
        )


@pytest.mark.parametrize("operation", _those(lambda asked: asked.authenticated))
async def test_nobody_in_particular_is_asked_to_log_in(operation: HttpOperation, gateways: list[str]) -> None:
    answer = await _call(None, gateways[0], operation, examples.path(operation))
    assert answer.status_code == 401
    assert set(answer.json()) >= {"error", "error_description"}
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("operation", _those(lambda asked: not asked.authenticated))
async def test_public_operations_do_not_ask_for_a_token(operation: HttpOperation, gateways: list[str]) -> None:
    answer = await _call(None, gateways[0], operation, examples.path(operation))
    proves_itself = operation.path == "/oauth2/revoke"
    assert (answer.status_code == 401) == proves_itself
    assert answer.status_code < 500


@pytest.mark.parametrize("operation", _those(lambda asked: asked.role > 0))
async def test_a_stranger_is_refused_and_a_missing_model_is_not_found(
    operation: HttpOperation, log_in: LogIn, gateways: list[str]
) -> None:
    owner, stranger = await log_in("owner"), await log_in("stranger")
    threat_model_id, diagram_id = await model_with_diagram(owner)
    path = examples.path(operation, threat_model_id=threat_model_id, diagram_id=diagram_id)
    answer = await _call(stranger, gateways[1], operation, path)
    assert (answer.status_code, answer.json()["error"]) == (403, "forbidden")
    missing = await _call(stranger, gateways[1], operation, examples.path(operation))
    assert (missing.status_code, missing.json()["error"]) == (404, "not_found")


@pytest.mark.parametrize("role", ["reader", "writer"])
async def test_a_role_opens_what_is_declared_and_nothing_above(role: str, log_in: LogIn, gateways: list[str]) -> None:
    owner, member = await log_in("owner"), await log_in("member")
    rank = {"reader": 1, "writer": 2}[role]
    threat_model_id, diagram_id = await model_with_diagram(owner, entry(member, role))
    threat = await owner.request("POST", f"/threat_models/{threat_model_id}/threats", {"name": "T", "threat_type": []})
    ids = {"threat_model_id": threat_model_id, "diagram_id": diagram_id, "threat_id": threat["id"]}
    for operation in sorted(_OPERATIONS, key=lambda each: each.verb == "DELETE"):
        needed = operation.requirement.role
        if not needed:
            continue
        answer = await _call(member, gateways[0], operation, examples.path(operation, **ids))
        if needed > rank:
            assert answer.status_code == 403, _name(operation)
        else:
            assert answer.status_code not in (401, 403, 500), f"{_name(operation)}: {answer.text}"
        if operation.path.endswith("/collaborate"):
            await owner.call("DELETE", examples.path(operation, **ids))


async def test_a_list_holds_only_what_its_reader_may_see(log_in: LogIn) -> None:
    owner, member, stranger = await log_in("owner"), await log_in("member"), await log_in("stranger")
    threat_model_id, _ = await model_with_diagram(owner, entry(member, "reader"))
    for person, expected in ((owner, True), (member, True), (stranger, False)):
        listed = await person.request("GET", "/threat_models?limit=100")
        assert (threat_model_id in {each["id"] for each in listed["threat_models"]}) is expected
        assert listed["total"] == len(listed["threat_models"])


async def test_a_role_that_is_taken_away_is_gone_at_once(log_in: LogIn) -> None:
    owner, member = await log_in("owner"), await log_in("member", gateway=1)
    threat_model_id, _ = await model_with_diagram(owner, entry(member, "writer"))
    path = f"/threat_models/{threat_model_id}"
    assert (await member.call("GET", path)).status_code == 200
    authorization = (await owner.request("GET", path))["authorization"]
    left = [
        {
            "principal_type": each["principal_type"],
            "provider": each["provider"],
            "provider_id": each["provider_id"],
            "role": each["role"],
        }
        for each in authorization
        if each["provider_id"] != member.name
    ]
    await owner.request("PATCH", path, [{"op": "replace", "path": "/authorization", "value": left}])
    assert (await member.call("GET", path)).status_code == 403
