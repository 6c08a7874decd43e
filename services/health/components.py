"""What the system consists of and how well it does, as plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How well the whole system does; the values are those of the API."""

    OK = "ok"
    DEGRADED = "degraded"
    ERROR = "error"


@dataclass(frozen=True)
class Probe:
    """Outcome of one probe. message is for operators and holds no secret."""

    healthy: bool
    latency_ms: int
    message: str = ""


@dataclass(frozen=True)
class Snapshot:
    """The last probe of everything: both stores, and every replica of each service by its address.

    room: whether the database can store anything; not healthy either while the database is not.
    """

    database: Probe
    room: Probe
    redis: Probe
    services: Mapping[str, Sequence[Probe]]

    @property
    def level(self) -> Level:
        """`error` when requests cannot be served, `degraded` when something is missing, else `ok`.

        The database and one replica each of auth and threat_model are what no request can do without.
        Without collaboration nobody edits together, but everything else is served. While the disk of the
        database is full everything can be read: sending nobody here would make that worse.
        """
        if not self.database.healthy or not all(self._any_alive(name) for name in NEEDED_SERVICES):
            return Level.ERROR
        everything = [self.room, self.redis, *(probe for replicas in self.services.values() for probe in replicas)]
        return Level.OK if all(probe.healthy for probe in everything) else Level.DEGRADED

    def missing(self) -> list[str]:
        """Names of what is not entirely well, in a fixed order."""
        database = ("room in the database", self.room) if self.database.healthy else ("database", self.database)
        names = [name for name, probe in (database, ("redis", self.redis)) if not probe.healthy]
        return names + [
            name for name, replicas in self.services.items() if not all(probe.healthy for probe in replicas)
        ]

    def _any_alive(self, name: str) -> bool:
        return any(probe.healthy for probe in self.services[name])


NEEDED_SERVICES = ("auth", "threat_model")

_NEVER = Probe(healthy=False, latency_ms=0, message="not probed yet")


def nothing_known(services: Mapping[str, Sequence[str]]) -> Snapshot:
    """Before the first probe: nothing is known to be well. `services` maps names to addresses."""
    return Snapshot(_NEVER, _NEVER, _NEVER, {name: [_NEVER for _ in addresses] for name, addresses in services.items()})
