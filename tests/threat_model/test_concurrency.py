"""Writers at the same moment, on real PostgreSQL."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import text

from services.shared.errors import ApiError
from tests.threat_model.api import Api, node

IDS = [f"6d5ef7b2-0000-4000-8000-0000000000{i:02x}" for i in range(16)]


def at_once(*works: Callable[[], Any]) -> list[Any]:
    """Results or errors of works that begin together."""
    barrier = Barrier(len(works))

    def begin(work: Callable[[], Any]) -> Any:
        barrier.wait()
        try:
            return work()
        except ApiError as error:
            return error

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(begin, works))


def test_of_two_writers_with_the_same_if_match_one_wins(api: Api) -> None:
    tm = api.new_threat_model()["id"]
    threat = {"threat_model_id": tm, "threat_id": api.threat(tm)["id"]}
    diagram = {"threat_model_id": tm, "diagram_id": api.diagram(tm)["id"]}
    for rpc, scope, bodies in (
        ("ReplaceThreat", threat, [{"name": "a", "severity": "low"}, {"name": "b", "priority": "low"}]),
        ("ReplaceThreatModel", {"threat_model_id": tm}, [{"name": "a", "description": "a"}, {"name": "b"}]),
        ("PatchDiagram", diagram, [[{"op": "replace", "path": "/name", "value": name}] for name in "ab"]),
    ):
        results = at_once(*(partial(getattr(api, rpc), body, if_match='"1"', **scope) for body in bodies))
        (winner,) = [result for result in results if not isinstance(result, ApiError)]
        (loser,) = [result for result in results if isinstance(result, ApiError)]
        assert (loser.status, loser.code) == (409, "version_mismatch")
        get = rpc.replace("Replace", "Get").replace("Patch", "Get")
        assert getattr(api, get)(**scope).raw == winner.raw
        assert winner.version == 2


def test_writers_without_if_match_are_serialised_and_nothing_is_lost(api: Api) -> None:
    tm = api.new_threat_model()["id"]
    scope = {"threat_model_id": tm, "diagram_id": api.diagram(tm)["id"]}

    def add(cell_id: str) -> Any:
        return api.PatchDiagram([{"op": "add", "path": "/cells/-", "value": node(cell_id)}], **scope)

    results = at_once(*(partial(add, cell_id) for cell_id in IDS))
    assert sorted(result.body["update_vector"] for result in results) == list(range(1, len(IDS) + 1))
    final = api.GetDiagram(**scope).body
    assert {cell["id"] for cell in final["cells"]} == set(IDS)
    assert (final["update_vector"], final["version"]) == (len(IDS), len(IDS) + 1)


@pytest.mark.parametrize("rpc", ["PatchThreat", "PatchThreatModel", "PatchDiagram"])
def test_writers_who_append_to_one_list_lose_nothing(api: Api, rpc: str) -> None:
    tm = api.new_threat_model()["id"]
    scope = {"threat_model_id": tm}
    if rpc == "PatchThreat":
        scope["threat_id"] = api.threat(tm)["id"]
    if rpc == "PatchDiagram":
        scope["diagram_id"] = api.diagram(tm)["id"]

    def append(number: int) -> Any:
        pair = {"key": f"key-{number}", "value": str(number)}
        return getattr(api, rpc)([{"op": "add", "path": "/metadata/-", "value": pair}], **scope)

    results = at_once(*(partial(append, number) for number in range(15)))
    assert sorted(result.version for result in results) == list(range(2, 17))
    final = getattr(api, rpc.replace("Patch", "Get"))(**scope).body
    assert {pair["key"] for pair in final["metadata"]} == {f"key-{number}" for number in range(15)}


def test_a_writer_who_waited_sees_what_is_stored_beside_the_row(api: Api) -> None:
    """Who replaces a whole list removes what the one before has put there, be it rows of another table."""
    tm = api.new_threat_model()["id"]
    scope = {"threat_model_id": tm, "diagram_id": api.diagram(tm)["id"]}

    def replace_cells(cell_id: str) -> Any:
        return api.PatchDiagram([{"op": "replace", "path": "/cells", "value": [node(cell_id)]}], **scope)

    def replace_access(number: int) -> Any:
        group = {"principal_type": "group", "provider": "acme", "provider_id": f"g{number}", "role": "reader"}
        return api.ReplaceThreatModel({"name": "x", "authorization": [group]}, threat_model_id=tm)

    api.new_threat_model(
        authorization=[
            {"principal_type": "group", "provider": "acme", "provider_id": f"g{n}", "role": "reader"} for n in range(15)
        ]
    )
    results = at_once(*(partial(replace_cells, cell_id) for cell_id in IDS[:15]))
    assert [len(result.body["cells"]) for result in results] == [1] * 15
    assert len(api.GetDiagram(**scope).body["cells"]) == 1
    results = at_once(*(partial(replace_access, number) for number in range(15)))
    assert [len(result.body["authorization"]) for result in results] == [2] * 15
    assert len(api.GetThreatModel(threat_model_id=tm).body["authorization"]) == 2


def test_patches_of_the_authorization_list_do_not_overwrite_each_other(api: Api) -> None:
    threat_model = api.new_threat_model()
    tm, before = threat_model["id"], len(threat_model["authorization"])
    people: list[dict[str, str]] = [
        {"principal_type": "group", "provider": "acme", "provider_id": "known-group"},
        {"principal_type": "group", "provider": "acme", "provider_id": "new-group"},
        {"principal_type": "user", "provider": "acme", "provider_id": "known-user"},
        {"principal_type": "user", "provider": "acme", "provider_id": "new-user"},
        {"principal_type": "user", "provider": "acme", "email": "known-address@acme.example"},
        {"principal_type": "user", "provider": "acme", "email": "new-address@acme.example"},
        {"principal_type": "user", "provider": "acme", "email": "other-address@acme.example"},
        {"principal_type": "group", "provider": "tmi", "provider_id": "everyone"},
    ]
    known = [{**person, "role": "writer"} for person in people if "known" in str(person)]

    def add(person: dict[str, str]) -> Any:
        entry = {**person, "role": "reader"}
        return api.PatchThreatModel([{"op": "add", "path": "/authorization/-", "value": entry}], threat_model_id=tm)

    api.new_threat_model(authorization=known)
    results = at_once(*(partial(add, person) for person in people))
    assert [result for result in results if isinstance(result, ApiError)] == []
    assert sorted(len(result.body["authorization"]) for result in results) == list(range(before + 1, before + 9))
    entries = api.GetThreatModel(threat_model_id=tm).body["authorization"]
    added = [entry for entry in entries if entry["role"] == "reader"]
    assert len(added) == len(people)
    for person in people:
        assert any(person.items() <= entry.items() for entry in added), person


def test_aliases_are_unique_under_concurrent_creation(api: Api) -> None:
    tm = api.new_threat_model()["id"]
    results = at_once(*[lambda: api.threat(tm)["alias"]] * 8)
    assert sorted(results) == list(range(1, 9))


def test_a_threat_model_cannot_gain_children_while_it_is_deleted(api: Api) -> None:
    for _ in range(5):
        tm = api.new_threat_model()["id"]
        created, deleted = at_once(partial(api.threat, tm), partial(api.DeleteThreatModel, threat_model_id=tm))
        assert deleted.status == 204
        assert isinstance(created, dict) or created.status == 404
        assert live_threats(api, tm) == 0


def live_threats(api: Api, tm: str) -> int:
    query = text("SELECT count(*) FROM threat_model.threats WHERE threat_model_id = :tm AND deleted_at IS NULL")
    return api.database.read(lambda c: int(c.execute(query, {"tm": tm}).scalar_one()))
