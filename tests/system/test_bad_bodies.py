"""Whatever is wrong with a body, and however often: a 400 of bounded size that names a fault, through every hop."""

from typing import Any

import pytest

from tests.system.conftest import LogIn, model_with_diagram

pytestmark = pytest.mark.anyio

_LARGEST_ANSWER_BYTES = 16 * 1024
_NAMES = {"plain": "n" * 2000, "accented": "é" * 2000, "emoji": "\U0001f600" * 1000, "brackets": "[{]" * 700}


def unknown_members(name: str) -> dict[str, Any]:
    return {f"{_NAMES[name]}{number}": "v" * 200 for number in range(100)}


@pytest.mark.parametrize("name", _NAMES)
@pytest.mark.parametrize("compressed", [False, True])
async def test_a_hundred_long_unknown_members(log_in: LogIn, name: str, compressed: bool) -> None:
    alice = await log_in("alice")
    headers = {"Accept-Encoding": "gzip" if compressed else "identity"}
    answer = await alice.call("POST", "/threat_models", {"name": "Shop"} | unknown_members(name), headers)
    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_input"
    assert len(answer.content) <= _LARGEST_ANSWER_BYTES


async def test_many_faults_in_every_kind_of_body(log_in: LogIn) -> None:
    alice = await log_in("alice")
    threat_model_id, diagram_id = await model_with_diagram(alice)
    model = f"/threat_models/{threat_model_id}"
    diagram = f"{model}/diagrams/{diagram_id}"
    long = "x" * 5000
    metadata = [{"key": f"!{long}", "value": 5, long: number} for number in range(100)]
    entries = [{"principal_type": long, "provider": long, "role": long} for _ in range(200)]
    patch = [{"op": long, "path": f"/{long}", long: long} for _ in range(50)]
    replaced = {"name": "Flow", "type": "DFD-1.0.0", "cells": [{long: long} for _ in range(100)]}
    bodies: list[tuple[str, str, Any]] = [
        ("POST", "/threat_models", {"name": "Shop", "metadata": metadata}),
        ("POST", "/threat_models", {"name": "Shop", "authorization": entries}),
        ("PUT", model, {"name": 5, "metadata": metadata, "authorization": entries}),
        ("PATCH", model, patch),
        ("PATCH", model, [{"op": "add", "path": f"/{long}", "value": long}]),
        ("POST", f"{model}/threats", {"name": "T", "metadata": metadata, "cvss": metadata, "cwe_id": metadata}),
        ("POST", f"{model}/threats/bulk", [{"name": long, "metadata": metadata[:10]}] * 20),
        ("POST", f"{model}/diagrams", {"name": "D", "type": long} | unknown_members("emoji")),
        ("PUT", diagram, replaced),
        ("PATCH", diagram, [{"op": "add", "path": "/cells/-", "value": {long: long}}] * 50),
        ("POST", f"{model}/metadata", unknown_members("plain")),
        ("POST", f"{model}/metadata/bulk", metadata),
        ("POST", "/oauth2/token?idp=tmi", {"grant_type": long, long: metadata[:3]}),
        ("POST", "/oauth2/refresh", {"refresh_token": [long], long: metadata[:3]}),
    ]
    for method, path, body in bodies:
        answer = await alice.call(method, path, body)
        assert answer.status_code == 400, (method, path, answer.text[:300])
        assert answer.json()["error"], (method, path)
        assert len(answer.content) <= _LARGEST_ANSWER_BYTES, (method, path)
