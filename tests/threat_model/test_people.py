"""Naming people: what it costs, what is answered, and whom it lets in."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import event

from services.shared.principal import Call
from services.threat_model.people.copies import Principals, store
from services.threat_model.people.names import PrincipalName
from tests.threat_model.api import Api, new_user
from tests.threat_model.test_authorization_list import entry, group, known

CALL = Call(None, None, "test", "")


def person(member: str, text: str, provider: str = "google", role: str = "reader") -> dict[str, Any]:
    return {"principal_type": "user", "provider": provider, member: text, "role": role}


def address() -> str:
    return new_user("bob").email


def entry_of(document: Any, **members: str) -> Any:
    (found,) = [item for item in document["authorization"] if members.items() <= item.items()]
    return found


def test_names_that_are_known_by_id_cost_no_call_and_all_others_one(any_api: Api) -> None:
    others = [entry(known(any_api, name), "reader") for name in ("bob", "carol")]
    addresses = [person("provider_id", address()), person("email", address()), person("provider_id", address(), "tmi")]
    strangers = [person("provider_id", new_user().user_id), group(new_user().user_id, "reader", "acme")]
    everyone = group("everyone", "reader", "*")
    any_api.new_threat_model(authorization=[*others, *addresses, *strangers, everyone])
    assert [len(queries) for queries in any_api.directory.asked] == [7]
    any_api.directory.asked.clear()
    any_api.new_threat_model(authorization=[*others, *strangers, everyone])
    assert any_api.directory.asked == []
    any_api.new_threat_model(authorization=[*others, *addresses, *strangers, everyone])
    assert [len(queries) for queries in any_api.directory.asked] == [3]


@pytest.mark.parametrize("member", ["provider_id", "email"])
@pytest.mark.parametrize("provider", ["google", "github"])
def test_somebody_invited_by_address_is_let_in_at_the_first_login(any_api: Api, member: str, provider: str) -> None:
    invited = address()
    document = any_api.new_threat_model(authorization=[person(member, invited.upper(), role="writer")])
    tm = document["id"]
    stub = entry_of(document, provider_id=invited)
    assert (stub["email"], stub["display_name"].lower()) == (invited, invited)
    bob = any_api.directory.log_in(provider, "42-" + invited.partition("@")[0], invited)
    assert any_api.as_caller(bob).CreateThreat({"name": "T"}, threat_model_id=tm).status == 201
    completed = any_api.GetThreatModel(threat_model_id=tm).body
    assert entry_of(completed, email=invited)["provider_id"] == bob.provider_id


@pytest.mark.parametrize("member", ["provider_id", "email"])
def test_somebody_invited_by_address_after_the_login_is_let_in(any_api: Api, member: str) -> None:
    invited = address()
    bob = any_api.directory.log_in("google", invited.partition("@")[0], invited)
    tm = any_api.new_threat_model(authorization=[person(member, invited.upper())])["id"]
    assert any_api.as_caller(bob).GetThreatModel(threat_model_id=tm).status == 200


def test_a_person_known_by_address_has_it_as_provider_id_everywhere(any_api: Api) -> None:
    by_email, by_id = address(), address()
    document = any_api.new_threat_model(authorization=[person("email", by_email), person("provider_id", by_id)])
    scope = {"threat_model_id": document["id"]}
    rename = [{"op": "replace", "path": "/name", "value": "N"}]
    owner = [{"op": "replace", "path": "/owner", "value": {"provider": "google", "provider_id": by_id}}]
    for answer in (
        document,
        any_api.GetThreatModel(**scope).body,
        any_api.PatchThreatModel(rename, **scope).body,
        any_api.ReplaceThreatModel({"name": "x", "authorization": document["authorization"]}, **scope).body,
        any_api.PatchThreatModel(owner, **scope).body,
    ):
        assert {by_email, by_id} < {item["provider_id"] for item in answer["authorization"]}
        assert len(answer["authorization"]) == len(document["authorization"])
    assert any_api.GetThreatModel(**scope).body["owner"]["provider_id"] == by_id
    listed = any_api.ListThreatModels().body["threat_models"]
    assert [item["owner"]["provider_id"] for item in listed if item["id"] == document["id"]] == [by_id]


def test_an_address_with_capitals_is_known_by_id_when_it_is_one(any_api: Api) -> None:
    """Ids are compared as they are, addresses without regard to case."""
    somebody = new_user()
    somebody.provider_id = f"Bob-{somebody.user_id}@X.example"
    any_api.directory.add(somebody)
    tm = any_api.new_threat_model(authorization=[person("provider_id", somebody.provider_id, "tmi")])["id"]
    assert any_api.as_caller(somebody).GetThreatModel(threat_model_id=tm).status == 200
    any_api.directory.asked.clear()
    any_api.new_threat_model(authorization=[person("provider_id", somebody.provider_id, "tmi")])
    assert any_api.directory.asked == []


def test_what_auth_said_before_a_login_does_not_undo_what_the_token_said(any_api: Api) -> None:
    invited = address()
    document = any_api.new_threat_model(authorization=[person("email", invited)])
    bob = any_api.directory.log_in("google", "42-" + invited, invited)
    before = {"id": bob.user_id, "type": "user", "provider": "google", "provider_id": ""}
    as_bob = any_api.as_caller(bob)
    as_bob.GetThreatModel(threat_model_id=document["id"])
    late = before | {"display_name": None, "email": invited}
    any_api.database.write(lambda connection: store(connection, [late], overwrite=True))
    answer = as_bob.GetThreatModel(threat_model_id=document["id"]).body
    assert entry_of(answer, email=invited)["provider_id"] == bob.provider_id


def test_naming_the_same_new_people_in_different_orders_never_deadlocks(api: Api) -> None:
    errors: list[str] = []

    def note(context: Any) -> None:
        errors.append(str(context.original_exception))

    principals = Principals(api.database, api.directory)
    for database in (api.database, api.directory.database):
        event.listen(database.engine, "handle_error", note)
    for _ in range(5):
        names = [PrincipalName("user", "google", email=address()) for _ in range(40)]
        barrier = Barrier(4)

        def resolve(turn: int, names: list[PrincipalName] = names, barrier: Barrier = barrier) -> Any:
            rotated = names[turn * 11 :] + names[: turn * 11]
            barrier.wait(10)
            return principals.resolve(rotated[::-1] if turn % 2 else rotated, CALL, create_missing=True)

        with ThreadPoolExecutor(4) as pool:
            first, *others = pool.map(resolve, range(4))
        assert len(set(first.values())) == 40
        assert all(other == first for other in others)
    for database in (api.database, api.directory.database):
        event.remove(database.engine, "handle_error", note)
    assert errors == []
