"""Every version that was ever answered is found again by going back from the present one."""

import random
from typing import Any

import orjson
import pytest
from sqlalchemy import delete

from services.shared.errors import ApiError
from services.threat_model.audit.tables import audit_entries
from services.threat_model.history.cells import cells_at
from services.threat_model.history.members import members_at
from tests.threat_model.api import Api, new_user, node
from tests.threat_model.test_assets import asset
from tests.threat_model.test_authorization_list import entry, known
from tests.threat_model.test_threats import FULL

SET_BY_SERVER = {"version", "modified_at", "status_updated", "deleted_at", "cells"}
CELLS = [f"6d5ef7b2-0000-4000-8000-00000000000{number}" for number in range(1, 6)]


def former(api: Api, present: Any, version: int) -> dict[str, Any]:
    """The present document with what differed at the version, without what only the server sets."""
    lost = api.database.read(lambda c: members_at(c, present["id"], present, present["version"], version))
    document = {name: value for name, value in (present | lost).items() if value not in (None, [], {})}
    return {name: value for name, value in document.items() if name not in SET_BY_SERVER}


def comparable(document: Any) -> dict[str, Any]:
    return {
        name: value for name, value in document.items() if name not in SET_BY_SERVER and value not in (None, [], {})
    }


def check(api: Api, seen: dict[int, Any]) -> None:
    """seen: every version but those of a deletion, the newest included."""
    present = seen[max(seen)]
    assert len(seen) > 3
    for version, document in seen.items():
        assert former(api, present, version) == comparable(document), version


def test_threats(any_api: Api) -> None:
    tm = any_api.new_threat_model()["id"]
    diagram = any_api.diagram(tm, node(CELLS[0]))
    threat = any_api.threat(tm, diagram_id=diagram["id"], cell_id=CELLS[0])
    scope = {"threat_model_id": tm, "threat_id": threat["id"]}
    seen = {1: threat}
    choice = random.Random(7)
    for number in range(30):
        names = choice.sample(sorted(FULL), 4)
        kept = {"diagram_id": diagram["id"], "cell_id": CELLS[0]}
        write = number % 4
        if write == 0:
            any_api.ReplaceThreat({"name": f"N{number}"} | kept | {name: FULL[name] for name in names}, **scope)
        elif write == 1:
            patch = [{"op": "add", "path": f"/{name}", "value": FULL[name]} for name in names]
            any_api.PatchThreat([*patch, {"op": "replace", "path": "/name", "value": f"P{number}"}], **scope)
        elif write == 2:
            any_api.BulkUpsertMetadata([{"key": f"k{number}", "value": "v"}], **scope)
        else:
            any_api.DeleteThreat(**scope)
            any_api.Restore(**scope)
        document = any_api.GetThreat(**scope).body
        seen[document["version"]] = document
    any_api.DeleteDiagram(threat_model_id=tm, diagram_id=diagram["id"])
    document = any_api.GetThreat(**scope).body
    seen[document["version"]] = document
    assert "diagram_id" not in document
    check(any_api, seen)


def test_assets(any_api: Api) -> None:
    tm = any_api.new_threat_model()["id"]
    document = asset(any_api, tm, description="first", classification=["a"])
    scope = {"threat_model_id": tm, "asset_id": document["id"]}
    seen = {1: document}
    for body in ({"type": "service"}, {"type": "data", "criticality": "high"}, {"type": "data", "metadata": []}):
        answer = any_api.ReplaceAsset({"name": "New"} | body, **scope).body
        seen[answer["version"]] = answer
    any_api.DeleteThreatModel(threat_model_id=tm)
    any_api.Restore(threat_model_id=tm)
    answer = any_api.GetAsset(**scope).body
    seen[answer["version"]] = answer
    check(any_api, seen)


def test_threat_models_with_their_people(any_api: Api) -> None:
    owner, reviewer = known(any_api, "owner"), known(any_api, "reviewer")
    document = any_api.new_threat_model(authorization=[entry(owner, "reader")], description="D")
    scope = {"threat_model_id": document["id"]}
    seen = {1: document}
    reviewing = new_user(is_security_reviewer=True)
    any_api.directory.add(reviewing)
    changes: list[tuple[Any, list[Any]]] = [
        (any_api, [{"op": "add", "path": "/authorization/-", "value": entry(reviewing, "writer")}]),
        (any_api, [{"op": "replace", "path": "/status", "value": "approved"}]),
        (
            any_api.as_caller(reviewing),
            [{"op": "add", "path": "/security_reviewer", "value": entry(reviewer, "owner")}],
        ),
        (any_api, [{"op": "replace", "path": "/owner", "value": entry(owner, "owner")}]),
        (any_api, [{"op": "remove", "path": "/security_reviewer"}, {"op": "remove", "path": "/description"}]),
    ]
    for api, patch in changes:
        api.PatchThreatModel(patch, **scope)
        answer = any_api.GetThreatModel(**scope).body
        seen[answer["version"]] = answer
    answer = any_api.ReplaceThreatModel({"name": "Last", "authorization": []}, **scope).body
    seen[answer["version"]] = answer
    assert max(seen) == len(seen) == 7
    check(any_api, seen)


def test_diagrams_with_their_cells(any_api: Api) -> None:
    tm = any_api.new_threat_model()["id"]
    document = any_api.diagram(tm)
    scope = {"threat_model_id": tm, "diagram_id": document["id"]}
    seen = {1: document}
    choice = random.Random(3)
    for number in range(20):
        body = {"name": f"D{number}", "type": "DFD-1.0.0", "description": "d" * (number % 3)}
        cells = [node(cell, zIndex=number) for cell in choice.sample(CELLS, choice.randrange(6))]
        answer = any_api.ReplaceDiagram(body | {"cells": cells}, **scope).body
        seen[answer["version"]] = answer
    check(any_api, seen)
    present = seen[max(seen)]
    for version, document in seen.items():
        vector = former(any_api, present, version).get("update_vector", 0)
        assert vector == document["update_vector"]
        rows = any_api.database.read(lambda c, vector=vector: cells_at(c, present["id"], vector))  # type: ignore[misc]
        assert [orjson.loads(text) for _, text in sorted(rows.values())] == document["cells"]


def test_beyond_what_is_kept_it_is_gone(any_api: Api) -> None:
    tm = any_api.new_threat_model()["id"]
    scope = {"threat_model_id": tm, "threat_id": any_api.threat(tm)["id"]}
    for number in range(4):
        any_api.ReplaceThreat({"name": f"N{number}"}, **scope)
    present = any_api.GetThreat(**scope).body
    pruned = delete(audit_entries).where(audit_entries.c.object_id == present["id"], audit_entries.c.version == 3)
    any_api.database.write(lambda c: c.execute(pruned))

    def at(version: int) -> Any:
        return any_api.database.read(lambda c: members_at(c, present["id"], present, present["version"], version))

    assert at(5) == {}
    assert at(3) == {"name": "N1"}
    for version, status in ((2, 410), (1, 410), (0, 404), (6, 404)):
        with pytest.raises(ApiError) as caught:
            at(version)
        assert caught.value.status == status
