"""Creates the threat model of `docs/examples/online-shop.json` through the API."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from deploy.demo.client import Person
from deploy.embedded.process import PROJECT

EXAMPLE = PROJECT / "docs" / "examples" / "online-shop.json"


@dataclass(frozen=True)
class Shop:
    """What was created."""

    threat_model_id: str
    diagram_id: str
    cell_count: int
    threat_count: int

    @property
    def diagram_path(self) -> str:
        """Path of the diagram under the API's base."""
        return f"/threat_models/{self.threat_model_id}/diagrams/{self.diagram_id}"


def read_example(file: Path = EXAMPLE) -> dict[str, Any]:
    """The example: `threat_model`, `diagram` with its cells, `threats`."""
    example: dict[str, Any] = orjson.loads(file.read_bytes())
    return example


async def create_shop(owner: Person, writer: Person, progress: Callable[[str], None]) -> Shop:
    """Creates the model, its diagram and its threats, and gives `writer` the writer role.

    progress is called with what is being done. Raises UnexpectedAnswer.
    """
    example = read_example()
    progress("creating the threat model")
    shared_with = {
        "principal_type": "user",
        "provider": "tmi",
        "provider_id": writer.name,
        "role": "writer",
    }
    model = await owner.request("POST", "/threat_models", {**example["threat_model"], "authorization": [shared_with]})
    base = f"/threat_models/{model['id']}"
    progress("drawing the diagram")
    diagram = example["diagram"]
    made = await owner.request("POST", f"{base}/diagrams", {"name": diagram["name"], "type": diagram["type"]})
    await owner.request("PUT", f"{base}/diagrams/{made['id']}", diagram)
    for number, threat in enumerate(example["threats"], start=1):
        progress(f"recording threat {number} of {len(example['threats'])}: {threat['name']}")
        await owner.request("POST", f"{base}/threats", {**threat, "diagram_id": made["id"]})
    return Shop(model["id"], made["id"], len(diagram["cells"]), len(example["threats"]))
