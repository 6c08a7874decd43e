"""Asking the auth service who somebody is."""

from collections.abc import Sequence
from typing import Protocol

import grpc

from services.shared import deadline
from services.shared.errors import from_rpc_error
from services.shared.principal import Call, metadata_for
from tmi.auth.v1.directory_pb2 import PrincipalQuery, PrincipalRecord, ResolvePrincipalsRequest
from tmi.auth.v1.directory_pb2_grpc import DirectoryStub

_TIMEOUT_SECONDS = 5.0


class PrincipalDirectory(Protocol):
    """Who the users and groups are."""

    def resolve(self, queries: Sequence[PrincipalQuery], call: Call) -> list[PrincipalRecord]:
        """Records in the order of the queries. Raises ApiError 503 when there is no answer."""
        ...


class AuthDirectory:
    """The directory of the auth service behind a channel."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = DirectoryStub(channel)

    def resolve(self, queries: Sequence[PrincipalQuery], call: Call) -> list[PrincipalRecord]:
        """Records in the order of the queries. Raises ApiError 503 when auth cannot be reached."""
        try:
            response = self._stub.ResolvePrincipals(
                ResolvePrincipalsRequest(queries=queries),
                timeout=min(_TIMEOUT_SECONDS, deadline.seconds_left()),
                metadata=metadata_for(call),
            )
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        return list(response.records)
