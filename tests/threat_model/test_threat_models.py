from typing import Any

import pytest
from sqlalchemy import select

from services.threat_model.access.tables import threat_models
from services.threat_model.audit.tables import audit_entries, outbox
from services.threat_model.children.tables import threats
from tests.threat_model.api import Api, new_user, node

A = "6d5ef7b2-0000-4000-8000-000000000001"
AUTOMATIC = {"security-reviewers": "owner", "tmi-automation": "writer"}


def roles(document: Any) -> dict[str, str]:
    return {entry["provider_id"]: entry["role"] for entry in document["authorization"]}


def user(principal: Any) -> dict[str, str]:
    return {
        "principal_type": "user",
        "provider": principal.provider,
        "provider_id": principal.provider_id,
        "display_name": principal.display_name,
        "email": principal.email,
    }


def test_a_minimal_threat_model(any_api: Api) -> None:
    created = any_api.CreateThreatModel({"name": "A & B's <shop>"})
    body = created.body
    got = any_api.GetThreatModel(threat_model_id=body["id"])
    assert created.raw == got.raw
    assert created.headers == {"location": f"/threat_models/{body['id']}", "etag": '"1"'}
    assert got.headers == {"etag": '"1"'}
    me = user(any_api.caller)
    reviewers = {"principal_type": "group", "provider": "tmi", "provider_id": "security-reviewers"}
    automation = {"principal_type": "group", "provider": "tmi", "provider_id": "tmi-automation"}
    assert body == {name: body[name] for name in ("id", "alias", "created_at")} | {
        "name": "A & B's <shop>",
        "threat_model_framework": "STRIDE",
        "status": "not_started",
        "status_updated": body["created_at"],
        "modified_at": body["created_at"],
        "is_confidential": False,
        "owner": me,
        "created_by": me,
        "authorization": [
            reviewers | {"display_name": "Security Reviewers", "role": "owner"},
            me | {"role": "owner"},
            automation | {"display_name": "TMI Automation", "role": "writer"},
        ],
        "metadata": [],
        "version": 1,
        "diagrams": [],
        "assets": [],
        "threats": [],
    }


def test_a_confidential_threat_model_has_its_own_reviewers(any_api: Api) -> None:
    document = any_api.new_threat_model(
        is_confidential=True, threat_model_framework="linddun", metadata=[{"key": "k", "value": "v"}], description="D"
    )
    assert document["is_confidential"] is True
    assert (document["threat_model_framework"], document["description"]) == ("LINDDUN", "D")
    assert document["metadata"] == [{"key": "k", "value": "v"}]
    assert set(roles(document)) == {"confidential-project-reviewers", "tmi-automation", any_api.caller.provider_id}


def test_aliases_are_never_used_twice(any_api: Api) -> None:
    first = any_api.new_threat_model()
    any_api.DeleteThreatModel(threat_model_id=first["id"])
    assert any_api.new_threat_model()["alias"] == first["alias"] + 1


def test_children_are_embedded_as_their_own_get_answers_them(any_api: Api) -> None:
    tm = any_api.new_threat_model()["id"]
    first, second = any_api.threat(tm, score=7.5), any_api.threat(tm)
    diagrams = [any_api.diagram(tm, node(A)), any_api.diagram(tm)]
    document = any_api.GetThreatModel(threat_model_id=tm).body
    assert document["threats"] == [second, first]
    assert document["diagrams"] == diagrams
    patched = any_api.PatchThreatModel([{"op": "replace", "path": "/name", "value": "N"}], threat_model_id=tm)
    assert patched.raw == any_api.GetThreatModel(threat_model_id=tm).raw


def test_put_keeps_what_it_cannot_name(any_api: Api) -> None:
    sent = {"name": "Full", "description": "D", "issue_uri": "https://x.example/1", "threat_model_framework": "CIA"}
    document = any_api.new_threat_model(**sent, metadata=[{"key": "k", "value": "v"}], is_confidential=True)
    scope = {"threat_model_id": document["id"]}
    any_api.PatchThreatModel([{"op": "replace", "path": "/status", "value": "approved"}], **scope)
    put = any_api.ReplaceThreatModel({"name": "Bare", "is_confidential": False}, **scope)
    assert put.raw == any_api.GetThreatModel(**scope).raw
    assert put.version == put.body["version"] == 3
    body = put.body
    assert "description" not in body
    assert "issue_uri" not in body
    assert (body["name"], body["threat_model_framework"], body["status"]) == ("Bare", "STRIDE", "approved")
    for kept in ("metadata", "is_confidential", "authorization", "owner", "alias", "created_at"):
        assert body[kept] == document[kept]
    assert any_api.ReplaceThreatModel({"name": "Bare", "metadata": []}, **scope).body["metadata"] == []
    assert any_api.ReplaceThreatModel(sent, **scope).body["description"] == "D"


def test_patch_clears_and_sets_members(any_api: Api) -> None:
    document = any_api.new_threat_model(description="D", issue_uri="https://x.example/1")
    patch = [
        {"op": "replace", "path": "/description", "value": None},
        {"op": "remove", "path": "/issue_uri"},
        {"op": "add", "path": "/metadata/-", "value": {"key": "b", "value": "1"}},
        {"op": "add", "path": "/metadata/0", "value": {"key": "a", "value": "2"}},
        {"op": "replace", "path": "/threat_model_framework", "value": "die"},
        {"op": "replace", "path": "/project_id", "value": None},
        {"op": "test", "path": "/version", "value": 1},
    ]
    body = any_api.PatchThreatModel(patch, threat_model_id=document["id"]).body
    assert "description" not in body
    assert "issue_uri" not in body
    assert [entry["key"] for entry in body["metadata"]] == ["a", "b"]
    assert body["threat_model_framework"] == "DIE"
    assert body["status_updated"] == document["status_updated"]


@pytest.mark.parametrize(
    ("operation", "code"),
    [
        ({"op": "replace", "path": "/id", "value": "x"}, "invalid_input"),
        ({"op": "replace", "path": "/is_confidential", "value": True}, "invalid_input"),
        ({"op": "replace", "path": "/created_by", "value": {}}, "invalid_input"),
        ({"op": "add", "path": "/threats/-", "value": {}}, "invalid_input"),
        ({"op": "remove", "path": "/source_code"}, "invalid_input"),
        ({"op": "replace", "path": "/name", "value": ""}, "invalid_input"),
        ({"op": "replace", "path": "/name", "value": [1]}, "invalid_input"),
        ({"op": "replace", "path": "/status", "value": "x" * 129}, "invalid_input"),
        ({"op": "replace", "path": "/status", "value": 5}, "invalid_input"),
        ({"op": "replace", "path": "/project_id", "value": A}, "invalid_input"),
        ({"op": "replace", "path": "/owner", "value": None}, "invalid_input"),
        ({"op": "replace", "path": "/owner", "value": {"provider": "tmi"}}, "invalid_input"),
        ({"op": "replace", "path": "/authorization", "value": "all"}, "invalid_input"),
        ({"op": "test", "path": "/name", "value": 5}, "patch_failed"),
        ({"op": "copy", "from": "/threats", "path": "/metadata"}, "patch_failed"),
    ],
)
def test_a_refused_patch_changes_nothing(api: Api, operation: Any, code: str) -> None:
    document = api.new_threat_model()
    scope = {"threat_model_id": document["id"]}
    error = api.refusal("PatchThreatModel", [{"op": "replace", "path": "/name", "value": "N"}, operation], **scope)
    assert (error.status, error.code) == (400, code)
    assert api.GetThreatModel(**scope).body == document


def test_the_status_is_for_owners_and_security_reviewers(any_api: Api) -> None:
    writer, reviewer = new_user("writer"), new_user("reviewer", is_security_reviewer=True)
    entries = []
    for person in (writer, reviewer):
        any_api.directory.add(person)
        entries.append(user(person) | {"role": "writer"})
    document = any_api.new_threat_model(authorization=entries)
    scope = {"threat_model_id": document["id"]}

    def patch(value: str) -> list[Any]:
        return [{"op": "replace", "path": "/status", "value": value}]

    assert any_api.as_caller(writer).refusal("PatchThreatModel", patch("approved"), **scope).status == 403
    by_owner = any_api.PatchThreatModel(patch("In Progress"), **scope).body
    assert by_owner["status"] == "in_progress"
    assert by_owner["status_updated"] == by_owner["modified_at"] > document["status_updated"]
    by_reviewer = any_api.as_caller(reviewer).PatchThreatModel(patch("Our own word"), **scope).body
    assert by_reviewer["status"] == "Our own word"
    removed = any_api.PatchThreatModel([{"op": "remove", "path": "/status"}], **scope).body
    assert removed["status"] == "not_started"


def test_delete_takes_the_children_along_at_one_instant(any_api: Api) -> None:
    tm = any_api.new_threat_model()["id"]
    threat, diagram = any_api.threat(tm), any_api.diagram(tm)
    earlier = any_api.threat(tm)
    any_api.DeleteThreat(threat_model_id=tm, threat_id=earlier["id"])
    answer = any_api.DeleteThreatModel(threat_model_id=tm)
    assert (answer.status, answer.raw) == (204, b"")
    for rpc, fields in (
        ("GetThreatModel", {}),
        ("DeleteThreatModel", {}),
        ("ListThreats", {}),
        ("GetThreat", {"threat_id": threat["id"]}),
        ("GetDiagram", {"diagram_id": diagram["id"]}),
    ):
        assert any_api.refusal(rpc, threat_model_id=tm, **fields).status == 404
    at = any_api.database.read(
        lambda c: c.execute(select(threat_models.c.deleted_at).where(threat_models.c.id == tm)).scalar_one()
    )
    rows = any_api.database.read(
        lambda c: c.execute(select(threats.c.id, threats.c.deleted_at).where(threats.c.threat_model_id == tm)).all()
    )
    assert {row.id: row.deleted_at == at for row in rows} == {threat["id"]: True, earlier["id"]: False}


def test_every_change_leaves_an_audit_entry_and_an_event(any_api: Api) -> None:
    tm = any_api.new_threat_model(name="Old")["id"]
    any_api.PatchThreatModel([{"op": "replace", "path": "/name", "value": "New"}], threat_model_id=tm)
    threat = any_api.threat(tm, severity="low")
    any_api.ReplaceThreat({"name": "Threat", "severity": "high"}, threat_model_id=tm, threat_id=threat["id"])
    any_api.DeleteThreat(threat_model_id=tm, threat_id=threat["id"])
    diagram = any_api.diagram(tm, node(A))
    any_api.DeleteDiagram(threat_model_id=tm, diagram_id=diagram["id"])
    any_api.DeleteThreatModel(threat_model_id=tm)
    any_api.refusal("PatchThreatModel", [], threat_model_id=tm)

    def rows(table: Any) -> Any:
        query = select(table).where(table.c.root_id == tm).order_by(table.c.id)
        return any_api.database.read(lambda c: c.execute(query).all())

    entries = rows(audit_entries)
    assert [(e.object_type, e.change_type, e.version) for e in entries] == [
        ("threat_model", "created", 1),
        ("threat_model", "patched", 2),
        ("threat", "created", 1),
        ("threat", "updated", 2),
        ("threat", "deleted", 3),
        ("diagram", "created", 1),
        ("diagram", "updated", 2),
        ("diagram", "deleted", 3),
        ("threat_model", "deleted", 3),
    ]
    assert {(e.actor_email, e.actor_provider, e.actor_provider_id, e.actor_display_name) for e in entries} == {
        (any_api.caller.email, "tmi", any_api.caller.provider_id, "User")
    }
    assert entries[1].change_summary == 'name: "Old" -> "New"'
    assert entries[0].before is None
    assert entries[1].before == {"name": "Old"}
    assert entries[3].change_summary == 'severity: "low" -> "high"'
    assert entries[3].before == {"severity": "low"}
    assert entries[4].before is None
    assert entries[6].before == {"update_vector": 0}
    assert entries[7].before is None
    assert [(e.event_type, e.object_id, e.payload["version"], e.published_at) for e in rows(outbox)] == [
        ("threat_model.created", tm, 1, None),
        ("threat_model.updated", tm, 2, None),
        ("threat.created", threat["id"], 1, None),
        ("threat.updated", threat["id"], 2, None),
        ("threat.deleted", threat["id"], 3, None),
        ("diagram.created", diagram["id"], 1, None),
        ("diagram.updated", diagram["id"], 2, None),
        ("diagram.deleted", diagram["id"], 3, None),
        ("threat_model.deleted", tm, 3, None),
    ]
