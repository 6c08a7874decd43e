"""What a session confers, as the gateway asks for it."""

from functools import partial
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest
from sqlalchemy import Connection

from services.auth.directory.groups import add_member
from services.auth.directory.tables import groups
from services.shared import sql_dialect
from services.shared.errors import from_rpc_error
from services.shared.principal import ADMINISTRATORS_GROUP_ID, SECURITY_REVIEWERS_GROUP_ID
from tests.auth.client import AuthClient, Service
from tmi.auth.v1.directory_pb2 import ResolveSessionRequest, ResolveSessionResponse


def _resolve(client: AuthClient, claims: dict[str, Any], **changes: str) -> ResolveSessionResponse:
    request = {"session_id": claims["sid"], "user_id": claims["tmi_user_id"]} | changes
    answer: ResolveSessionResponse = client.directory.ResolveSession(ResolveSessionRequest(**request))
    return answer


def _refusal(client: AuthClient, claims: dict[str, Any], **changes: str) -> int:
    with pytest.raises(grpc.RpcError) as failure:
        _resolve(client, claims, **changes)
    return from_rpc_error(failure.value).status


def test_groups_and_roles_are_those_of_now(service: Service) -> None:
    service.client.log_in("first")
    claims = dict(service.client.claims(service.client.log_in("alice").access))
    assert _resolve(service.client, claims) == ResolveSessionResponse()
    user_id = claims["tmi_user_id"]
    for group, answer in (
        (SECURITY_REVIEWERS_GROUP_ID, ResolveSessionResponse(is_security_reviewer=True)),
        (ADMINISTRATORS_GROUP_ID, ResolveSessionResponse(is_security_reviewer=True, is_administrator=True)),
    ):
        service.database.write(partial(add_member, group_ids=[group], user_id=user_id, now=service.clock()))
        resolved = _resolve(service.client, claims)
        assert (resolved.is_administrator, resolved.is_security_reviewer) == (
            answer.is_administrator,
            answer.is_security_reviewer,
        )
        assert UUID(group).bytes in resolved.group_ids


def test_a_thousand_groups_fit_and_the_login_stays_a_cookie(service: Service) -> None:
    ids = [str(uuid4()) for _ in range(1000)]
    user_id = service.client.claims(service.client.log_in("alice").access)["tmi_user_id"]

    def join(connection: Connection) -> None:
        rows = [{"id": i, "provider": "tmi", "group_name": f"group {i}", "display_name": "G"} for i in ids]
        connection.execute(sql_dialect.insert(connection, groups).values(rows))
        add_member(connection, ids, user_id, service.clock())

    service.database.write(join)
    tokens = service.client.log_in("alice")
    assert len(tokens.access) < 2048
    resolved = _resolve(service.client, dict(service.client.claims(tokens.access)))
    assert {UUID(group).bytes for group in ids} <= set(resolved.group_ids)
    assert service.client.profile(tokens.access).status == 0


def test_only_a_live_session_of_the_user_is_resolved(service: Service) -> None:
    client = service.client
    tokens = client.log_in("alice")
    claims = dict(client.claims(tokens.access))
    assert _refusal(client, claims, session_id=str(uuid4())) == 401
    assert _refusal(client, claims, user_id=str(uuid4())) == 401
    assert _refusal(client, claims, session_id="session") == 400
    assert _refusal(client, claims, user_id="") == 400
    client.log_out(tokens.access)
    assert _refusal(client, claims) == 401
