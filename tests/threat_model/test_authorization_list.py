from typing import Any
from uuid import UUID

import pytest

from services.shared.principal import SECURITY_REVIEWERS_GROUP_ID
from services.threat_model.access.roles import principal_ids
from tests.threat_model.api import Api, new_user
from tests.threat_model.test_threat_models import AUTOMATIC, roles, user
from tmi.principal.v1.principal_pb2 import Principal


def known(api: Api, name: str, **claims: Any) -> Principal:
    """A user whom auth knows and this service does not."""
    somebody = new_user(name, **claims)
    api.directory.add(somebody)
    return somebody


def entry(principal: Principal, role: str) -> dict[str, Any]:
    return {"principal_type": "user", "provider": "tmi", "provider_id": principal.provider_id, "role": role}


def group(name: str, role: str, provider: str = "tmi") -> dict[str, Any]:
    return {"principal_type": "group", "provider": provider, "provider_id": name, "role": role}


def test_users_and_groups_get_the_roles_asked_for(any_api: Api) -> None:
    bob, carol = known(any_api, "bob"), known(any_api, "carol")
    document = any_api.new_threat_model(
        authorization=[entry(bob, "Reader"), entry(carol, "writer"), group("engineering", "reader", "acme")]
    )
    me = any_api.caller.provider_id
    assert roles(document) == AUTOMATIC | {
        me: "owner",
        bob.provider_id: "reader",
        carol.provider_id: "writer",
        "engineering": "reader",
    }
    listed = {item["provider_id"]: item for item in document["authorization"]}
    assert listed[bob.provider_id] == user(bob) | {"role": "reader"}
    tm = document["id"]
    assert any_api.as_caller(bob).GetThreatModel(threat_model_id=tm).body == document
    assert any_api.as_caller(bob).refusal("CreateThreat", {"name": "T"}, threat_model_id=tm).status == 403
    assert any_api.as_caller(carol).CreateThreat({"name": "T"}, threat_model_id=tm).status == 201
    assert any_api.as_caller(carol).refusal("DeleteThreatModel", threat_model_id=tm).status == 403
    assert any_api.as_caller(new_user()).refusal("GetThreatModel", threat_model_id=tm).status == 403


def test_groups_count_by_id_and_the_highest_role_wins(any_api: Api) -> None:
    bob = known(any_api, "bob")
    tm = any_api.new_threat_model(authorization=[entry(bob, "reader")])["id"]
    namesake = new_user("x", groups=["6d5ef7b2-0000-4000-8000-0000000000ff"])
    assert any_api.as_caller(namesake).refusal("GetThreatModel", threat_model_id=tm).status == 403
    bob.group_ids.append(UUID(SECURITY_REVIEWERS_GROUP_ID).bytes)
    assert any_api.as_caller(bob).CreateThreat({"name": "T"}, threat_model_id=tm).status == 201


def test_the_group_everyone_opens_a_threat_model(any_api: Api) -> None:
    tm = any_api.new_threat_model(authorization=[group("everyone", "reader", "*")])["id"]
    stranger = any_api.as_caller(new_user())
    assert stranger.GetThreatModel(threat_model_id=tm).status == 200
    assert tm in [item["id"] for item in stranger.ListThreatModels().body["threat_models"]]
    assert any_api.directory.asked == []
    without_groups = Principal(user_id=new_user().user_id)
    assert len(principal_ids(without_groups)) == 2
    for provider_id in ("everybody",):
        error = any_api.refusal(
            "CreateThreatModel", {"name": "x", "authorization": [group(provider_id, "reader", "*")]}
        )
        assert (error.status, error.code) == (400, "invalid_input")


def test_the_creator_listed_again_stays_owner(any_api: Api) -> None:
    document = any_api.new_threat_model(
        authorization=[entry(any_api.caller, "reader"), group("tmi-automation", "reader")]
    )
    assert roles(document) == AUTOMATIC | {any_api.caller.provider_id: "owner", "tmi-automation": "reader"}


def test_somebody_named_by_email_is_found_and_answered_with_the_real_id(any_api: Api) -> None:
    bob, carol = known(any_api, "bob"), known(any_api, "carol")
    as_email = {"principal_type": "user", "provider": "tmi", "email": bob.email.upper(), "role": "reader"}
    as_id = {"principal_type": "user", "provider": "tmi", "provider_id": carol.email, "role": "writer"}
    document = any_api.new_threat_model(authorization=[as_email, as_id])
    assert roles(document) == AUTOMATIC | {
        any_api.caller.provider_id: "owner",
        bob.provider_id: "reader",
        carol.provider_id: "writer",
    }
    any_api.directory.asked.clear()
    assert roles(any_api.new_threat_model(authorization=[as_email, as_id])) == roles(document)
    assert len(any_api.directory.asked) == 1


def test_an_email_of_another_provider_is_somebody_else(any_api: Api) -> None:
    bob = known(any_api, "bob")
    foreign = {"principal_type": "user", "provider": "google", "email": bob.email, "role": "reader"}
    tm = any_api.new_threat_model(authorization=[foreign])["id"]
    assert any_api.as_caller(bob).refusal("GetThreatModel", threat_model_id=tm).status == 403


def test_an_unknown_user_is_recorded_to_be_completed_at_the_first_login(any_api: Api) -> None:
    newcomer = "new-" + new_user().user_id
    stub = {"principal_type": "user", "provider": "tmi", "provider_id": newcomer, "role": "reader"}
    tm = any_api.new_threat_model(authorization=[stub])["id"]
    later = any_api.directory.log_in("tmi", newcomer, "dora@example.com")
    document = any_api.as_caller(later).GetThreatModel(threat_model_id=tm).body
    (found,) = [item for item in document["authorization"] if item["provider_id"] == newcomer]
    assert (found["display_name"], found["email"]) == (newcomer.title(), "dora@example.com")


def test_two_names_of_one_user_are_a_duplicate(any_api: Api) -> None:
    bob = known(any_api, "bob")
    by_email = {"principal_type": "user", "provider": "tmi", "email": bob.email, "role": "reader"}
    for entries in ([entry(bob, "reader"), entry(bob, "writer")], [entry(bob, "reader"), by_email]):
        error = any_api.refusal("CreateThreatModel", {"name": "x", "authorization": entries})
        assert (error.status, error.code) == (400, "invalid_input")
        assert error.message.startswith("authorization")


def test_without_auth_only_the_unknown_cannot_be_named(any_api: Api) -> None:
    bob = known(any_api, "bob")
    any_api.new_threat_model(authorization=[entry(bob, "reader")])
    any_api.directory.reachable = False
    any_api.new_threat_model(authorization=[entry(bob, "reader")])
    error = any_api.refusal("CreateThreatModel", {"name": "x", "authorization": [entry(new_user(), "reader")]})
    assert (error.status, error.code, "Retry-After" in error.headers) == (503, "service_unavailable", True)


def test_only_an_owner_changes_the_list_by_put(any_api: Api) -> None:
    bob, carol = known(any_api, "bob"), known(any_api, "carol")
    document = any_api.new_threat_model(authorization=[entry(bob, "writer")])
    scope = {"threat_model_id": document["id"]}
    as_bob = any_api.as_caller(bob)
    unchanged = as_bob.ReplaceThreatModel({"name": "x", "authorization": document["authorization"]}, **scope).body
    assert unchanged["authorization"] == document["authorization"]
    any_api.directory.asked.clear()
    for entries in ([], [entry(bob, "owner")], [*document["authorization"], entry(carol, "reader")]):
        assert as_bob.refusal("ReplaceThreatModel", {"name": "y", "authorization": entries}, **scope).status == 403
    unknown = entry(new_user("nobody"), "reader")
    assert as_bob.refusal("ReplaceThreatModel", {"name": "y", "authorization": [unknown]}, **scope).status == 403
    assert not any(query.create_missing for queries in any_api.directory.asked for query in queries)
    assert any_api.GetThreatModel(**scope).body["name"] == "x"
    by_owner = any_api.ReplaceThreatModel({"name": "z", "authorization": [entry(carol, "reader")]}, **scope).body
    assert roles(by_owner) == {any_api.caller.provider_id: "owner", carol.provider_id: "reader"}
    alone = any_api.ReplaceThreatModel({"name": "z", "authorization": []}, **scope).body
    assert roles(alone) == {any_api.caller.provider_id: "owner"}
    assert any_api.ReplaceThreatModel({"name": "z", "authorization": [unknown]}, **scope).status == 200


def test_the_list_is_patched_by_owners_only(any_api: Api) -> None:
    bob, carol = known(any_api, "bob"), known(any_api, "carol")
    document = any_api.new_threat_model(authorization=[entry(bob, "writer")])
    scope = {"threat_model_id": document["id"]}
    add = [{"op": "add", "path": "/authorization/-", "value": entry(carol, "reader")}]
    assert any_api.as_caller(bob).refusal("PatchThreatModel", add, **scope).status == 403
    added = any_api.PatchThreatModel(add, **scope)
    assert added.raw == any_api.GetThreatModel(**scope).raw
    assert roles(added.body) == roles(document) | {carol.provider_id: "reader"}
    index = [item["provider_id"] for item in added.body["authorization"]].index(carol.provider_id)
    promoted = any_api.PatchThreatModel(
        [{"op": "replace", "path": f"/authorization/{index}/role", "value": "WRITER"}], **scope
    ).body
    assert roles(promoted)[carol.provider_id] == "writer"
    removed = any_api.PatchThreatModel([{"op": "remove", "path": "/authorization"}], **scope).body
    assert roles(removed) == {any_api.caller.provider_id: "owner"}


def test_ownership_moves_and_the_previous_owner_stays_owner(any_api: Api) -> None:
    bob = known(any_api, "bob")
    document = any_api.new_threat_model(authorization=[entry(bob, "writer")])
    scope = {"threat_model_id": document["id"]}

    def patch(value: Any) -> list[Any]:
        return [{"op": "replace", "path": "/owner", "value": value}]

    assert any_api.as_caller(bob).refusal("PatchThreatModel", patch(bob.email), **scope).status == 403
    unknown = any_api.refusal("PatchThreatModel", patch("nobody@example.com"), **scope)
    assert (unknown.status, unknown.code) == (404, "not_found")
    moved = any_api.PatchThreatModel(patch(bob.email), **scope).body
    assert moved["owner"] == user(bob)
    assert moved["created_by"] == user(any_api.caller)
    assert roles(moved) == roles(document) | {bob.provider_id: "owner"}
    back = any_api.as_caller(bob).PatchThreatModel(patch(user(any_api.caller)), **scope).body
    assert back["owner"] == user(any_api.caller)
    renamed = any_api.PatchThreatModel(
        [{"op": "replace", "path": "/owner/provider_id", "value": bob.provider_id}], **scope
    ).body
    assert renamed["owner"] == user(bob)


def test_a_security_reviewer_is_protected_while_assigned(any_api: Api) -> None:
    reviewer = known(any_api, "reviewer", is_security_reviewer=True)
    document = any_api.new_threat_model(authorization=[entry(reviewer, "writer")])
    scope = {"threat_model_id": document["id"]}
    as_reviewer = any_api.as_caller(reviewer)
    assign = [{"op": "add", "path": "/security_reviewer", "value": user(reviewer)}]
    assert any_api.refusal("PatchThreatModel", assign, **scope).status == 403
    assigned = as_reviewer.PatchThreatModel(assign, **scope).body
    assert assigned["security_reviewer"] == user(reviewer)
    assert roles(assigned)[reviewer.provider_id] == "owner"
    without = [item for item in assigned["authorization"] if item["provider_id"] != reviewer.provider_id]
    for entries in (without, [*without, entry(reviewer, "writer")]):
        for rpc, body in (
            ("ReplaceThreatModel", {"name": "x", "authorization": entries}),
            ("PatchThreatModel", [{"op": "replace", "path": "/authorization", "value": entries}]),
        ):
            error = any_api.refusal(rpc, body, **scope)
            assert (error.status, error.code) == (409, "conflict")
    renamed = any_api.PatchThreatModel([{"op": "replace", "path": "/name", "value": "N"}], **scope).body
    assert renamed["security_reviewer"] == user(reviewer)
    lifted = any_api.PatchThreatModel(
        [
            {"op": "replace", "path": "/security_reviewer", "value": None},
            {"op": "replace", "path": "/authorization", "value": without},
        ],
        **scope,
    ).body
    assert "security_reviewer" not in lifted
    assert reviewer.provider_id not in roles(lifted)


def test_clearing_the_reviewer_leaves_the_entry(any_api: Api) -> None:
    reviewer = known(any_api, "reviewer", is_security_reviewer=True)
    document = any_api.new_threat_model(authorization=[entry(reviewer, "reader")])
    scope = {"threat_model_id": document["id"]}
    assign = [{"op": "add", "path": "/security_reviewer", "value": reviewer.email}]
    assert any_api.as_caller(reviewer).refusal("PatchThreatModel", assign, **scope).status == 403
    any_api.caller.is_security_reviewer = True
    any_api.PatchThreatModel(assign, **scope)
    unknown = [{"op": "add", "path": "/security_reviewer", "value": "nobody@example.com"}]
    assert any_api.refusal("PatchThreatModel", unknown, **scope).status == 404
    cleared = any_api.PatchThreatModel([{"op": "remove", "path": "/security_reviewer"}], **scope).body
    assert roles(cleared)[reviewer.provider_id] == "owner"


@pytest.mark.parametrize("rpc", ["ReplaceThreatModel", "PatchThreatModel", "DeleteThreatModel"])
def test_service_accounts_are_refused_where_only_the_invoker_may_act(api: Api, rpc: str) -> None:
    tm = api.new_threat_model()["id"]
    account = Principal()
    account.CopyFrom(api.caller)
    account.is_service_account = True
    body = {"ReplaceThreatModel": {"name": "x"}, "PatchThreatModel": [{"op": "remove", "path": "/description"}]}.get(
        rpc
    )
    assert api.as_caller(account).refusal(rpc, body, threat_model_id=tm).status == 403


def test_a_service_account_acts_as_its_owner_without_taking_over_the_name(any_api: Api) -> None:
    owner = new_user("robo")
    account = Principal()
    account.CopyFrom(owner)
    account.provider_id = f"sa:6d5ef7b2-0000-4000-8000-0000000000aa:{owner.provider_id}"
    account.display_name = "[Service Account] ci"
    account.is_service_account = True
    document = any_api.as_caller(account).new_threat_model()
    assert document["owner"]["provider_id"] == owner.provider_id
    assert any_api.as_caller(owner).GetThreatModel(threat_model_id=document["id"]).body["owner"] == user(owner)
    any_api.as_caller(account).ListThreatModels()
    assert any_api.as_caller(owner).GetThreatModel(threat_model_id=document["id"]).body["owner"] == user(owner)
