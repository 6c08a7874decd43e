"""The whole system as real processes, once for all tests of this folder: two of each that edits pass through."""

import itertools
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from deploy.demo.client import Person
from deploy.embedded.stack import Stack
from tests.auth.github_server import GitHubServer, github_server

_HERE = Path(__file__).parent
_NAMES = itertools.count()
_RUN = secrets.token_hex(2)

LogIn = Callable[..., Awaitable[Person]]


@pytest.hookimpl(tryfirst=True)  # before xdist looks at the groups, also when a file of this folder is asked for
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker runs them all: they share the processes, and some of them kill those."""
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("system"))


@pytest.fixture(scope="session")
def github() -> Iterator[GitHubServer]:
    with github_server() as server:
        yield server


@pytest.fixture(scope="session")
def stack(data_folder: Path, github: GitHubServer) -> Iterator[Stack]:
    settings = {
        "TMI_BUILD_MODE": "test",
        "TMI_HOST_GRACE_SECONDS": "2",
        "TMI_LOG_LEVEL": "debug",
        # Some tests write as fast as they can until something has recovered.
        "TMI_RATELIMIT_USER_RPM": "1000000",
        **github.environment(),
    }
    with Stack(
        data_folder / "system",
        gateways=2,
        collaboration=2,
        threat_model=2,
        settings=settings,
        durable=False,
        openid_provider=True,
    ) as stack:
        yield stack


@pytest.fixture(scope="session")
def gateways(stack: Stack) -> list[str]:
    return stack.gateway_urls


@pytest.fixture
async def log_in(gateways: list[str]) -> AsyncIterator[LogIn]:
    """Logs a new person in: `await log_in("alice", gateway=1)`. Names are made unique to the test."""
    async with AsyncExitStack() as people:

        async def make(name: str, *, gateway: int = 0, unique: bool = True, **options: Any) -> Person:
            if unique:
                name = f"{name}-{_RUN}-{next(_NAMES)}"
            person = await people.enter_async_context(Person(name, gateways[gateway], **options))
            return await person.log_in()

        yield make


def entry(person: Person, role: str) -> dict[str, str]:
    """An entry of a threat model's access list."""
    return {"principal_type": "user", "provider": "tmi", "provider_id": person.name, "role": role}


async def model_with_diagram(owner: Person, *others: dict[str, str]) -> tuple[str, str]:
    """Ids of a new threat model, shared as `others` say, and of a diagram with two nodes in it."""
    model = await owner.request("POST", "/threat_models", {"name": "System test", "authorization": list(others)})
    path = f"/threat_models/{model['id']}/diagrams"
    diagram = await owner.request("POST", path, {"name": "Flow", "type": "DFD-1.0.0"})
    await owner.request(
        "PUT",
        f"{path}/{diagram['id']}",
        {"name": "Flow", "type": "DFD-1.0.0", "cells": [node(number) for number in range(2)]},
    )
    return model["id"], diagram["id"]


def node(number: int) -> dict[str, Any]:
    """A process on the diagram; its id follows from the number."""
    return {
        "id": f"00000000-0000-4000-8000-{number:012}",
        "shape": "process",
        "position": {"x": 100 * number, "y": 80},
        "size": {"width": 140, "height": 60},
        "attrs": {"text": {"text": f"Process {number}"}},
        "data": {"_metadata": [], "security_boundary": False},
    }
