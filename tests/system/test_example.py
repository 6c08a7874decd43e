"""The online shop of docs/examples: right in itself, and what comes back from the system is what went in."""

import math
import re
import uuid

import pytest

from deploy.demo.shop import create_shop, read_example
from tests.system.conftest import LogIn

_WEIGHTS: dict[str, dict[str, float]] = {
    "AV": {"N": 0.85, "A": 0.62, "L": 0.55, "P": 0.2},
    "AC": {"L": 0.77, "H": 0.44},
    "UI": {"N": 0.85, "R": 0.62},
    "C": {"H": 0.56, "L": 0.22, "N": 0.0},
}
_PRIVILEGES = {"U": {"N": 0.85, "L": 0.62, "H": 0.27}, "C": {"N": 0.85, "L": 0.68, "H": 0.5}}
_STRIDE = {
    "Spoofing",
    "Tampering",
    "Repudiation",
    "Information Disclosure",
    "Denial of Service",
    "Elevation of Privilege",
}
_NODES = {"actor", "process", "store", "security-boundary", "text-box"}


def base_score(vector: str) -> float:
    """CVSS v3.1 specification, section 7.1 and appendix A."""
    version, *parts = vector.split("/")
    assert version == "CVSS:3.1"
    metric = dict(part.split(":") for part in parts)
    assert set(metric) == {"AV", "AC", "PR", "UI", "S", "C", "I", "A"}
    impact_base = 1 - math.prod(1 - _WEIGHTS["C"][metric[name]] for name in ("C", "I", "A"))
    changed = metric["S"] == "C"
    impact = 7.52 * (impact_base - 0.029) - 3.25 * (impact_base - 0.02) ** 15 if changed else 6.42 * impact_base
    exploitability = 8.22 * _PRIVILEGES[metric["S"]][metric["PR"]]
    for name in ("AV", "AC", "UI"):
        exploitability *= _WEIGHTS[name][metric[name]]
    if impact <= 0:
        return 0.0
    scaled = round(min((1.08 if changed else 1) * (impact + exploitability), 10) * 100_000)
    return scaled / 100_000 if scaled % 10_000 == 0 else (scaled // 10_000 + 1) / 10


@pytest.mark.parametrize(
    ("vector", "score"),
    [
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", 9.8),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H", 10.0),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", 6.1),
        ("CVSS:3.1/AV:L/AC:H/PR:H/UI:R/S:U/C:N/I:N/A:N", 0.0),
    ],
)
def test_the_score_calculator_agrees_with_published_scores(vector: str, score: float) -> None:
    assert base_score(vector) == score


def test_the_threats_have_right_scores_and_known_categories() -> None:
    example = read_example()
    assert len(example["threats"]) == 12
    cells = {cell["id"] for cell in example["diagram"]["cells"]}
    for threat in example["threats"]:
        assert [entry["score"] for entry in threat["cvss"]] == [base_score(each["vector"]) for each in threat["cvss"]]
        assert threat["score"] == threat["cvss"][0]["score"]
        assert set(threat["threat_type"]) <= _STRIDE
        assert all(re.fullmatch(r"CWE-[0-9]+", weakness) for weakness in threat["cwe_id"])
        assert threat["cell_id"] in cells
        assert threat["severity"] == _rating(threat["score"])
    assert {kind for threat in example["threats"] for kind in threat["threat_type"]} == _STRIDE


def test_the_diagram_is_connected_and_has_boundaries() -> None:
    cells = {cell["id"]: cell for cell in read_example()["diagram"]["cells"]}
    flows = [cell for cell in cells.values() if cell["shape"] == "flow"]
    assert len(cells) >= 20
    assert len(flows) >= 10
    assert sum(cell["shape"] == "security-boundary" for cell in cells.values()) >= 3
    assert {cell["shape"] for cell in cells.values()} <= _NODES | {"flow"}
    for cell in cells.values():
        assert str(uuid.UUID(cell["id"])) == cell["id"]
        assert cell.get("parent", cell["id"]) in cells
    for flow in flows:
        assert cells[flow["source"]["cell"]]["shape"] in _NODES
        assert cells[flow["target"]["cell"]]["shape"] in _NODES


def _rating(score: float) -> str:
    """CVSS v3.1 specification, section 5."""
    return "low" if score < 4 else "medium" if score < 7 else "high" if score < 9 else "critical"


@pytest.mark.anyio
async def test_the_shop_comes_back_as_it_went_in(log_in: LogIn) -> None:
    owner, writer = await log_in("owner"), await log_in("writer", gateway=1)
    shop = await create_shop(owner, writer, lambda _: None)
    example = read_example()
    model = await writer.request("GET", f"/threat_models/{shop.threat_model_id}")
    assert {name: model[name] for name in example["threat_model"]} == example["threat_model"]
    diagram = await writer.request("GET", shop.diagram_path)
    assert diagram["cells"] == example["diagram"]["cells"]
    assert diagram["update_vector"] == 1
    listed = await writer.request("GET", f"/threat_models/{shop.threat_model_id}/threats?sort=created_at:asc")
    assert [threat["name"] for threat in listed["threats"]] == [threat["name"] for threat in example["threats"]]
    for stored, given in zip(listed["threats"], example["threats"], strict=True):
        assert {name: stored[name] for name in given} == given
