"""Finding the running system, and its processes, from what the supervisor writes under `.tmi/run`."""

import os
from pathlib import Path

import httpx

from deploy.embedded.process import PROJECT
from deploy.embedded.stack import GATEWAYS_FILE


class NoSystem(Exception):
    """No system answers."""


def running_gateways(directory: Path = PROJECT / ".tmi") -> list[str]:
    """URLs of the gateways that TMI_URLS names (separated by commas), else of `make run`. Raises NoSystem."""
    named = os.environ.get("TMI_URLS", "")
    if named:
        urls = [url.strip() for url in named.split(",") if url.strip()]
    else:
        file = directory / "run" / GATEWAYS_FILE
        urls = file.read_text().split() if file.exists() else []
    if not urls or not all(_is_ready(url) for url in urls):
        raise NoSystem("no system answers: start one with `make run`, or name its gateways in TMI_URLS.")
    return urls


def collaboration_processes(directory: Path) -> dict[int, int]:
    """Process ids of the collaboration replicas by their number."""
    found = {}
    for file in sorted((directory / "run").glob("collaboration-*.pid")):
        found[int(file.stem.rpartition("-")[2])] = int(file.read_text())
    return found


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=2, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False
