"""What one connection may use, and what all of them together may."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv6Address, ip_address
from typing import Protocol

from gateway.trusted_proxies import TrustedProxies
from services.shared.settings import Settings

BODY_GRACE_SECONDS = 5.0
"""How much longer than the application a connection waits for a body: the application's answer is the better one."""


class UnreadAnswer(Protocol):
    """A connection with an answer that its reader has not taken yet."""

    @property
    def unread_bytes(self) -> int:
        """What waits in this process."""

    def abort(self) -> None:
        """Gives the connection up."""


@dataclass(slots=True)
class Bounds:
    """The limits of every connection, and what all of them together use."""

    head_bytes: int
    head_fields: int
    head_seconds: float
    body_seconds: float
    write_seconds: float
    unread_bytes: int
    connections_per_address: int
    proxies: TrustedProxies
    connections: Counter[str] = field(default_factory=Counter)
    unread: set[UnreadAnswer] = field(default_factory=set)

    @classmethod
    def of(cls, settings: Settings) -> "Bounds":
        """As the operator set them. Raises ValueError for networks that are none."""
        return cls(
            head_bytes=settings.max_head_bytes,
            head_fields=settings.max_header_fields,
            head_seconds=settings.head_timeout_seconds,
            body_seconds=settings.body_timeout_seconds + BODY_GRACE_SECONDS,
            write_seconds=settings.write_timeout_seconds,
            unread_bytes=settings.max_unread_bytes,
            connections_per_address=settings.max_connections_per_address,
            proxies=TrustedProxies(settings.trusted_proxies),
        )

    def admit(self, address: str) -> Callable[[], None] | None:
        """Counts a connection of this address; the result ends it. None when there are too many."""
        if self.proxies.contains(address):
            return nothing_counted
        network = network_of(address)
        if self.connections[network] >= self.connections_per_address:
            return None
        self.connections[network] += 1
        return partial(self._leave, network)

    def make_room(self) -> None:
        """Ends the connections with most unread bytes until those of the rest are no more than allowed."""
        sizes = {connection: connection.unread_bytes for connection in self.unread}
        total = sum(sizes.values())
        while total > self.unread_bytes:
            largest = max(sizes, key=sizes.__getitem__)
            total -= sizes.pop(largest)
            self.unread.discard(largest)
            largest.abort()

    def _leave(self, network: str) -> None:
        self.connections[network] -= 1
        if not self.connections[network]:
            del self.connections[network]


def network_of(address: str) -> str:
    """What one peer has at its disposal: an IPv4 address, or the 64 bits that name an IPv6 network."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    return address if parsed.ipv4_mapped else str(int(parsed) >> 64)


def nothing_counted() -> None:
    """Ends a connection that is not counted."""
