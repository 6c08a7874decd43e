"""A handler that forgets the role which its operation declares neither writes nor answers."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.descriptor import ServiceDescriptor
from sqlalchemy import Connection, text

from services.shared import rpc
from services.shared.access import OWNER, READER, WRITER
from services.shared.database import Database
from services.shared.errors import ApiError, forbidden, from_rpc_error
from services.shared.principal import Call, metadata_for
from tests.protos import compiled
from tmi.principal.v1.principal_pb2 import Principal

SERVICE: ServiceDescriptor = compiled(
    """
    service Example {
      rpc Read(Request) returns (google.api.HttpBody) {
        option (google.api.http) = {get: "/example"};
        option (tmi.options.v1.operation) = {access: ACCESS_READER};
      }
      rpc Write(Request) returns (google.api.HttpBody) {
        option (google.api.http) = {post: "/example"};
        option (tmi.options.v1.operation) = {access: ACCESS_WRITER_INVOKER};
      }
      rpc Open(Request) returns (google.api.HttpBody) {
        option (google.api.http) = {put: "/example"};
        option (tmi.options.v1.operation) = {access: ACCESS_AUTHENTICATED};
      }
      rpc Internal(Request) returns (google.api.HttpBody);
    }
    message Request {}
    """
).services_by_name["Example"]
STRANGER = Principal(user_id="1")

Outcome = bytes | ApiError
Ask = Callable[[str, rpc.Handler], Outcome]


@pytest.fixture(params=["postgresql", "sqlite"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    sqlite = request.param == "sqlite"
    database = Database(f"sqlite:///{tmp_path / 'x.db'}" if sqlite else request.getfixturevalue("database_url"), "x")
    database.write(lambda connection: connection.execute(text("DROP TABLE IF EXISTS secrets")))
    database.write(lambda connection: connection.execute(text("CREATE TABLE secrets (name text)")))
    yield database
    database.engine.dispose()


@pytest.fixture
def ask() -> Iterator[Ask]:
    """Serves a synchronous handler and calls it as a stranger: bytes that it answers, or its error."""
    servers: list[grpc.Server] = []

    def call(method: str, handler: rpc.Handler) -> Outcome:
        server = grpc.server(ThreadPoolExecutor(1))
        servers.append(server)
        rpc.add_service(server, SERVICE, {each.name: handler for each in SERVICE.methods})
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            unary = channel.unary_unary(
                f"/{SERVICE.full_name}/{method}", HttpBody.SerializeToString, HttpBody.FromString
            )
            try:
                answer: HttpBody = unary(HttpBody(), metadata=metadata_for(Call(None, STRANGER, "", "")), timeout=20)
            except grpc.RpcError as error:
                return from_rpc_error(error)
        return bytes(answer.data)

    yield call
    for server in servers:
        server.stop(None).wait()


def insert(connection: Connection) -> None:
    connection.execute(text("INSERT INTO secrets VALUES ('x')"))


def stored(database: Database) -> int:
    count: int = database.read(lambda connection: connection.execute(text("SELECT count(*) FROM secrets")).scalar_one())
    return count


def assert_refused(outcome: Outcome, log: str, method: str) -> None:
    assert isinstance(outcome, ApiError)
    assert (outcome.status, outcome.code, outcome.message) == (500, "server_error", "An internal error occurred.")
    assert f"{SERVICE.full_name}.{method}" in log
    assert "RoleNotRequired" in log


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    caplog.set_level(logging.ERROR)
    return lambda: "\n".join(f"{record.__dict__.get('method')} {record.exc_text}" for record in caplog.records)


def test_a_read_is_not_answered(ask: Ask, log: Callable[[], str]) -> None:
    assert_refused(ask("Read", lambda _request, _call: rpc.Reply(b"secret")), log(), "Read")


def test_a_write_is_not_committed(ask: Ask, database: Database, log: Callable[[], str]) -> None:
    def handle(_request: Any, _call: Call) -> rpc.Reply:
        database.write(insert)
        return rpc.Reply(b"secret")

    assert_refused(ask("Write", handle), log(), "Write")
    assert stored(database) == 0


def test_a_check_that_comes_after_the_commit_is_too_late(ask: Ask, database: Database, log: Callable[[], str]) -> None:
    def handle(_request: Any, call: Call) -> rpc.Reply:
        database.write(insert)
        call.require(OWNER)
        return rpc.Reply(b"secret")

    assert_refused(ask("Write", handle), log(), "Write")
    assert stored(database) == 0


@pytest.mark.parametrize("swallowed", [ApiError, Exception])
def test_a_refusal_that_is_swallowed_is_no_check(
    ask: Ask, database: Database, log: Callable[[], str], swallowed: type[Exception]
) -> None:
    def handle(_request: Any, call: Call) -> rpc.Reply:
        def work(connection: Connection) -> None:
            insert(connection)
            call.require(READER)

        try:
            database.write(work)
        except swallowed:
            return rpc.Reply(b"secret")
        raise AssertionError("committed")

    assert_refused(ask("Write", handle), log(), "Write")
    assert stored(database) == 0


def test_the_last_check_counts(ask: Ask, database: Database, log: Callable[[], str]) -> None:
    """As when a transaction is repeated and the role has been taken away meanwhile."""

    def handle(_request: Any, call: Call) -> rpc.Reply:
        call.require(OWNER)
        with suppress(ApiError):
            call.require(None)
        database.write(insert)
        return rpc.Reply(b"secret")

    assert_refused(ask("Write", handle), log(), "Write")
    assert stored(database) == 0


def test_a_check_inside_or_before_the_transaction_lets_it_commit(ask: Ask, database: Database) -> None:
    def inside(_request: Any, call: Call) -> rpc.Reply:
        def work(connection: Connection) -> None:
            call.require(WRITER)
            insert(connection)

        database.write(work)
        return rpc.Reply(b"done")

    def before(_request: Any, call: Call) -> rpc.Reply:
        call.require(OWNER)
        database.write(insert)
        return rpc.Reply(b"done")

    assert ask("Write", inside) == b"done"
    assert ask("Write", before) == b"done"
    assert stored(database) == 2


def test_what_may_be_written_for_anybody_says_so(ask: Ask, database: Database) -> None:
    def handle(_request: Any, call: Call) -> rpc.Reply:
        database.write(insert, before_role=True)
        call.require(None)
        return rpc.Reply(b"secret")

    outcome = ask("Write", handle)
    assert isinstance(outcome, ApiError)
    assert outcome.status == 403
    assert stored(database) == 1


def test_an_error_needs_no_check(ask: Ask) -> None:
    def handle(_request: Any, _call: Call) -> rpc.Reply:
        raise forbidden("Not yours.")

    outcome = ask("Read", handle)
    assert isinstance(outcome, ApiError)
    assert outcome.message == "Not yours."


@pytest.mark.parametrize("method", ["Open", "Internal"])
def test_where_no_role_is_declared_none_is_missed(ask: Ask, database: Database, method: str) -> None:
    def handle(_request: Any, _call: Call) -> Any:
        database.write(insert)
        return rpc.Reply(b"done") if method == "Open" else HttpBody(data=b"done")

    assert ask(method, handle) == b"done"
    assert stored(database) == 1


def test_a_call_does_not_answer_for_the_one_before_it_on_the_same_thread(ask: Ask, database: Database) -> None:
    def handle(request: Any, call: Call) -> rpc.Reply:
        if not calls:
            call.require(OWNER)
        calls.append(request)
        database.write(insert)
        return rpc.Reply(b"done")

    calls: list[Any] = []
    server = grpc.server(ThreadPoolExecutor(1))
    rpc.add_service(server, SERVICE, {each.name: handle for each in SERVICE.methods})
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        unary = channel.unary_unary(f"/{SERVICE.full_name}/Write", HttpBody.SerializeToString, HttpBody.FromString)
        metadata = metadata_for(Call(None, STRANGER, "", ""))
        assert unary(HttpBody(), metadata=metadata, timeout=20).data == b"done"
        with pytest.raises(grpc.RpcError) as caught:
            unary(HttpBody(), metadata=metadata, timeout=20)
    server.stop(None).wait()
    assert from_rpc_error(caught.value).status == 500
    assert len(calls) == 2
    assert stored(database) == 1


# Handlers that are coroutines


async def _ask_async(method: str, handler: Callable[[Any, Call], Awaitable[Any]]) -> Outcome:
    server = grpc.aio.server()
    rpc.add_async_service(server, SERVICE, {each.name: handler for each in SERVICE.methods})
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            unary = channel.unary_unary(
                f"/{SERVICE.full_name}/{method}", HttpBody.SerializeToString, HttpBody.FromString
            )
            answer: HttpBody = await unary(HttpBody(), metadata=metadata_for(Call(None, STRANGER, "", "")), timeout=20)
            return bytes(answer.data)
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error)
    finally:
        await server.stop(None)


@pytest.mark.anyio
async def test_a_coroutine_is_not_answered_for(log: Callable[[], str]) -> None:
    async def handle(_request: Any, _call: Call) -> rpc.Reply:
        return rpc.Reply(b"secret")

    assert_refused(await _ask_async("Read", handle), log(), "Read")


@pytest.mark.anyio
async def test_a_coroutine_does_not_commit_even_from_another_thread(database: Database, log: Callable[[], str]) -> None:
    async def handle(_request: Any, _call: Call) -> rpc.Reply:
        await asyncio.to_thread(database.write, insert)
        return rpc.Reply(b"secret")

    assert_refused(await _ask_async("Write", handle), log(), "Write")
    assert stored(database) == 0


@pytest.mark.anyio
async def test_a_coroutine_that_checks_is_served(database: Database) -> None:
    async def handle(_request: Any, call: Call) -> rpc.Reply:
        call.require(WRITER)
        await asyncio.to_thread(database.write, insert)
        return rpc.Reply(b"done")

    assert await _ask_async("Write", handle) == b"done"
    assert stored(database) == 1
