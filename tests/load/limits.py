"""What an operation may cost, as a multiple of its bare parts. The only place with limits."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = "root"
GET_ONE = "get one threat model"
CREATE = "create threat"
PATCH = "patch threat"
DELIVER = "deliver an event"
COMMIT = "commit an edit"

FOREIGN_MODELS = (100, 1_000, 10_000)


def list_name(foreign: int) -> str:
    """The list among so many models that the caller may not see."""
    return f"list 20 among {foreign:,} foreign models"


@dataclass(frozen=True)
class Limit:
    """at_most: the ratio that fails on any machine. noise: by which share runs of the same code differ."""

    at_most: float
    noise: float


LIMITS = {
    ROOT: Limit(3.0, 0.3),
    GET_ONE: Limit(4.2, 0.3),
    **{list_name(count): Limit(4.9, 0.3) for count in FOREIGN_MODELS},
    CREATE: Limit(5.6, 0.3),
    PATCH: Limit(6.9, 0.3),
    DELIVER: Limit(2.5, 0.3),
    COMMIT: Limit(12.5, 0.45),
}
"""Headroom: about 1.4 times the middle of several runs (docs/performance.md), for other processors and Pythons."""

FLAT_WITHIN = 1.35
"""The list is flat when it costs at most this many times as much among the most foreign models as among the fewest."""

FIGURES = Path(__file__).with_name("release_figures.json")
"""Ratios of the last release, by operation."""


def load_release() -> dict[str, float]:
    """The ratios of the last release; empty when none were saved."""
    return dict(json.loads(FIGURES.read_text())) if FIGURES.exists() else {}


def save_release(ratios: Mapping[str, float]) -> None:
    """Makes these the figures to compare with."""
    FIGURES.write_text(json.dumps({name: round(ratio, 2) for name, ratio in ratios.items()}, indent=2) + "\n")
