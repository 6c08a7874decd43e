"""Whose word about the client counts: `X-Forwarded-*` is believed only from peers the operator named."""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import ip_address, ip_network

from gateway.exchange import Exchange


class TrustedProxies:
    """Addresses and networks of the proxies in front of the gateway."""

    def __init__(self, networks: Iterable[str]) -> None:
        """Takes IP addresses and CIDR networks. Raises ValueError for anything else."""
        self._networks = [ip_network(network, strict=False) for network in networks]
        self._contains = lru_cache(maxsize=1024)(self._look_up)

    def trusts(self, exchange: Exchange) -> bool:
        """Whether the peer of this connection is one of them."""
        return self.contains(_peer(exchange))

    def contains(self, address: str) -> bool:
        """Whether the address is one of them."""
        return bool(self._networks) and self._contains(address)

    def client_ip(self, exchange: Exchange) -> str:
        """The client's address: the last one in `X-Forwarded-For` that is not a trusted proxy, else the peer's."""
        peer = _peer(exchange)
        if not self._networks or not self._contains(peer):
            return peer
        client = peer
        for address in reversed((exchange.header(b"x-forwarded-for") or "").split(",")):
            address = address.strip()
            if not _is_address(address):
                break
            client = address
            if not self._contains(address):
                break
        return client

    def _look_up(self, text: str) -> bool:
        if not _is_address(text):
            return False
        address = ip_address(text)
        return any(address in network for network in self._networks)


def _peer(exchange: Exchange) -> str:
    client = exchange.scope.get("client")
    return client[0] if client else ""


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
