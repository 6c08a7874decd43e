import re
import uuid
from typing import Any

import orjson
import pytest
from sqlalchemy import event, insert, text

from services.shared import rfc3339
from services.shared.access import OWNER, WRITER
from services.shared.principal import SECURITY_REVIEWERS_GROUP_ID, TMI_AUTOMATION_GROUP_ID
from services.threat_model.access.tables import threat_model_access, threat_models
from services.threat_model.people.tables import principals
from tests.threat_model.api import Api, new_user, node
from tests.threat_model.test_authorization_list import entry, known

A = "6d5ef7b2-0000-4000-8000-000000000001"


def names(api: Api, **filters: Any) -> list[str]:
    page = api.ListThreatModels(**filters).body
    assert page["total"] == len(page["threat_models"])
    return [item["name"] for item in page["threat_models"]]


def test_items_and_counts(any_api: Api) -> None:
    document = any_api.new_threat_model(description="D", issue_uri="https://x.example/1")
    tm = document["id"]
    any_api.threat(tm)
    gone = any_api.threat(tm)
    any_api.DeleteThreat(threat_model_id=tm, threat_id=gone["id"])
    any_api.diagram(tm, node(A))
    any_api.diagram(tm)
    body = any_api.ListThreatModels().body
    assert {name: body[name] for name in ("total", "limit", "offset")} == {"total": 1, "limit": 20, "offset": 0}
    shared = (
        "id", "alias", "name", "description", "owner", "created_by", "threat_model_framework", "issue_uri", "status",
        "status_updated", "created_at", "modified_at",
    )  # fmt: skip
    assert body["threat_models"] == [
        {name: document[name] for name in shared}
        | {"threat_count": 1, "diagram_count": 2}
        | dict.fromkeys(("document_count", "repo_count", "note_count", "asset_count"), 0)
    ]


def test_pages_newest_first(any_api: Api) -> None:
    for name in ("one", "two", "three"):
        any_api.new_threat_model(name=name)
    assert names(any_api) == ["three", "two", "one"]
    page = any_api.ListThreatModels(limit=1, offset=1).body
    assert ([item["name"] for item in page["threat_models"]], page["total"]) == (["two"], 3)
    beyond = any_api.ListThreatModels(offset=50).body
    assert (beyond["threat_models"], beyond["total"], beyond["offset"]) == ([], 3, 50)


def test_only_threat_models_with_a_role_are_listed_and_once_each(any_api: Api) -> None:
    bob = known(any_api, "bob", groups=[SECURITY_REVIEWERS_GROUP_ID])
    any_api.new_threat_model(name="shared", authorization=[entry(bob, "reader")])
    own = any_api.as_caller(bob).ListThreatModels().body["threat_models"]
    assert [item["name"] for item in own].count("shared") == 1
    assert any_api.as_caller(new_user()).ListThreatModels().body == {
        "threat_models": [],
        "total": 0,
        "limit": 20,
        "offset": 0,
    }


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"name": "SHOP"}, ["Shop 2", "Shop 1_%"]),
        ({"name": "1_%"}, ["Shop 1_%"]),
        ({"name": "\\"}, []),
        ({"description": "find"}, ["Shop 2"]),
        ({"issue_uri": "x.example"}, ["Shop 1_%"]),
        ({"owner": "LISTER"}, ["Bank", "Shop 2", "Shop 1_%"]),
        ({"owner": "nobody"}, []),
        ({"status": ["approved", "closed"]}, ["Shop 2"]),
        ({"status": ["Not_Started"]}, ["Bank", "Shop 1_%"]),
        ({"security_reviewer": "is:null"}, ["Shop 2", "Shop 1_%"]),
        ({"security_reviewer": "is:notnull"}, ["Bank"]),
        ({"security_reviewer": "lister@"}, ["Bank"]),
        ({"security_reviewer": "somebody"}, []),
        ({"name": "shop", "status": ["approved"]}, ["Shop 2"]),
        (
            {"created_after": "2020-01-01T00:00:00Z", "created_before": "2999-01-01T00:00:00Z"},
            ["Bank", "Shop 2", "Shop 1_%"],
        ),
        ({"modified_before": "2020-01-01T00:00:00Z"}, []),
        ({"modified_after": "2999-01-01T00:00:00+01:00"}, []),
        ({"status_updated_before": "2020-01-01T00:00:00Z"}, []),
        ({"status_updated_after": "2020-01-01T00:00:00Z", "name": "bank"}, ["Bank"]),
    ],
)
def test_filters(any_api: Api, filters: dict[str, Any], expected: list[str]) -> None:
    lister = any_api.as_caller(new_user("lister", is_security_reviewer=True))
    lister.caller.email = "lister@example.com"
    lister.new_threat_model(name="Shop 1_%", issue_uri="https://x.example/1")
    approved = lister.new_threat_model(name="Shop 2", description="Can find me")
    lister.PatchThreatModel([{"op": "add", "path": "/status", "value": "approved"}], threat_model_id=approved["id"])
    reviewed = lister.new_threat_model(name="Bank")
    reviewer = {"provider": "tmi", "provider_id": lister.caller.provider_id}
    lister.PatchThreatModel(
        [{"op": "add", "path": "/security_reviewer", "value": reviewer}], threat_model_id=reviewed["id"]
    )
    assert names(lister, **filters) == expected


def test_bounds_in_time_are_inclusive(any_api: Api) -> None:
    at = any_api.new_threat_model()["created_at"]
    assert names(any_api, created_after=at, created_before=at) == ["Shop"]


@pytest.mark.parametrize(
    "filters",
    [{"security_reviewer": "is:true"}, {"security_reviewer": "no:x"}, {"created_after": "x"}, {"name": "a\x00"}],
)
def test_unreadable_filters_are_refused(api: Api, filters: dict[str, str]) -> None:
    error = api.refusal("ListThreatModels", **filters)
    assert (error.status, error.code) == (400, "invalid_input")


def test_deleted_threat_models_are_for_administrators(any_api: Api) -> None:
    kept, gone = any_api.new_threat_model(), any_api.new_threat_model()
    any_api.DeleteThreatModel(threat_model_id=gone["id"])
    assert any_api.refusal("ListThreatModels", include_deleted=True).status == 403
    any_api.caller.is_administrator = True
    everything = any_api.ListThreatModels(include_deleted=True).body["threat_models"]
    assert {item["id"]: "deleted_at" in item for item in everything} == {kept["id"]: False, gone["id"]: True}


def rows_read(api: Api) -> tuple[int, str]:
    """Rows that PostgreSQL touches to answer the caller's list, and the plan."""
    captured: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        captured.append((statement, parameters))

    event.listen(api.database.engine, "before_cursor_execute", note)
    assert api.ListThreatModels().body["total"] == 20
    event.remove(api.database.engine, "before_cursor_execute", note)
    statement, parameters = captured[-1]
    explain = "EXPLAIN (ANALYZE, FORMAT JSON) " + statement
    (plan,) = api.database.read(lambda c: c.exec_driver_sql(explain, parameters).scalar_one())

    def total(part: dict[str, Any]) -> int:
        own = (part["Actual Rows"] + part.get("Rows Removed by Filter", 0)) * part["Actual Loops"]
        return int(own) + sum(total(child) for child in part.get("Plans", []))

    return total(plan["Plan"]), orjson.dumps(plan["Plan"]).decode()


def test_the_list_costs_the_same_with_many_foreign_threat_models(api: Api) -> None:
    for _ in range(20):
        api.new_threat_model()
    add_foreign(api, 100)
    few, _ = rows_read(api)
    add_foreign(api, 5000)
    many, plan = rows_read(api)
    assert not re.search(r'"Seq Scan"[^{}]*"Relation Name":"threat_model(s|_access)"', plan)
    assert many <= few * 1.2, plan


def add_foreign(api: Api, count: int) -> None:
    now = rfc3339.now()
    other = str(uuid.uuid4())
    ids = [str(uuid.uuid4()) for _ in range(count)]
    models = [
        {"id": id_, "alias": 1_000_000 + number + count, "name": "Foreign", "framework": "STRIDE"}
        | {"status": "not_started", "status_updated": now, "is_confidential": False, "owner_id": other}
        | {"created_by": other, "metadata": [], "version": 1, "created_at": now, "modified_at": now}
        for number, id_ in enumerate(ids)
    ]
    roles = {other: OWNER, SECURITY_REVIEWERS_GROUP_ID: OWNER, TMI_AUTOMATION_GROUP_ID: WRITER}
    access = [
        {"threat_model_id": id_, "principal_id": principal, "role": role}
        for id_ in ids
        for principal, role in roles.items()
    ]
    person = {"id": other, "type": "user", "provider": "tmi", "provider_id": other}
    with api.database.engine.begin() as connection:
        connection.execute(insert(principals), person)
        connection.execute(insert(threat_models), models)
        connection.execute(insert(threat_model_access), access)
        connection.execute(text("ANALYZE threat_model.threat_models, threat_model.threat_model_access"))
