"""The real protocol to the auth service, with a service that answers with auth's own rules."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from services.shared.errors import ApiError
from services.shared.principal import REQUEST_ID_KEY, Call
from services.shared.rpc import Handler, add_service
from services.threat_model.people.directory import AuthDirectory
from tests.threat_model.api import Directory, new_user
from tmi.auth.v1 import directory_pb2
from tmi.auth.v1.directory_pb2 import (
    ListRevocationsResponse,
    ListSigningKeysResponse,
    PrincipalQuery,
    PrincipalType,
    ResolvePrincipalsRequest,
    ResolvePrincipalsResponse,
    ResolveSessionResponse,
)

CALL = Call(None, None, "request-7", "")


class AuthService:
    """Answers ResolvePrincipals and notes the request ids."""

    def __init__(self, url: str) -> None:
        self.directory = Directory(url)
        self.request_ids: list[str] = []

    def resolve(self, request: ResolvePrincipalsRequest, call: Call) -> ResolvePrincipalsResponse:
        self.request_ids.append(call.request_id)
        return ResolvePrincipalsResponse(records=self.directory.resolve(list(request.queries), call))


@pytest.fixture
def auth(tmp_path: Path) -> Iterator[tuple[AuthService, AuthDirectory]]:
    service = AuthService(f"sqlite:///{tmp_path / 'auth.db'}")
    server = grpc.server(ThreadPoolExecutor(2))
    handlers: dict[str, Handler] = {
        "ResolvePrincipals": service.resolve,
        "ListSigningKeys": lambda *_: ListSigningKeysResponse(),
        "ListRevocations": lambda *_: ListRevocationsResponse(),
        "ResolveSession": lambda *_: ResolveSessionResponse(),
    }
    add_service(server, directory_pb2.DESCRIPTOR.services_by_name["Directory"], handlers)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield service, AuthDirectory(channel)
    server.stop(0).wait()
    service.directory.database.engine.dispose()


def test_records_come_in_the_order_of_the_queries(auth: tuple[AuthService, AuthDirectory]) -> None:
    service, directory = auth
    bob = new_user("bob")
    service.directory.add(bob)
    user = PrincipalType.PRINCIPAL_TYPE_USER
    found, unknown, made = directory.resolve(
        [
            PrincipalQuery(type=user, provider="tmi", email=bob.email),
            PrincipalQuery(type=user, provider="tmi", provider_id="nobody"),
            PrincipalQuery(type=user, provider="tmi", provider_id="newcomer", create_missing=True),
        ],
        CALL,
    )
    assert (found.id, unknown.found, made.found, made.provider_id) == (bob.user_id, False, True, "newcomer")
    assert service.request_ids == ["request-7"]
    assert REQUEST_ID_KEY == "x-request-id"


def test_an_unreachable_auth_service_is_503(auth: tuple[AuthService, AuthDirectory]) -> None:
    service, directory = auth
    service.directory.reachable = False
    with pytest.raises(ApiError) as from_auth:
        directory.resolve([], CALL)
    with grpc.insecure_channel("127.0.0.1:1") as channel, pytest.raises(ApiError) as unreachable:
        AuthDirectory(channel).resolve([], CALL)
    for caught in (from_auth, unreachable):
        assert (caught.value.status, caught.value.code) == (503, "service_unavailable")
        assert "Retry-After" in caught.value.headers
