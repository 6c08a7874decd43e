"""The one endpoint: an HTTP request becomes a call of the operation's RPC, its result the answer."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

import grpc
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.message import Message
from starlette.types import Receive, Scope, Send

from gateway import compression, root
from gateway.conditional import is_not_modified
from gateway.exchange import Exchange, exchange_of
from gateway.public_url import PublicUrl
from gateway.responses import ClientDisconnected, RawHeaders, respond
from gateway.retries import repeated
from gateway.root import Fallback
from gateway.routes import Operation, unknown_path
from services.shared.errors import from_rpc_error
from services.shared.operations import HttpOperation
from services.shared.principal import PRINCIPAL_KEY, PUBLIC_URL_KEY, REQUEST_ID_KEY
from services.shared.rpc import HTTP_HEADER_PREFIX, HTTP_STATUS_KEY

Metadata = tuple[tuple[str, str | bytes], ...]
Call = Callable[..., Any]

WATCH_AFTER_SECONDS = 1.0
"""How long a call runs before anybody looks whether its client is still there."""
_READS = ("GET", "HEAD")
_VARY = (b"vary", b"Accept-Encoding")


class Transcoder:
    """Calls services for requests that passed every gate."""

    def __init__(
        self,
        channels: Mapping[str, grpc.aio.Channel],
        operations: Iterable[HttpOperation],
        public_url: PublicUrl,
        *,
        timeout_seconds: float,
        root_fallback: Fallback,
    ) -> None:
        self._calls = {operation.rpc_path: _callable(operation, channels) for operation in operations}
        self._public_url = public_url
        self._timeout_seconds = timeout_seconds
        self._root_fallback = root_fallback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request. Raises ApiError for what the gateway or the service refuses."""
        exchange = exchange_of(scope)
        operation = exchange.operation
        if operation is None:
            if exchange.route is None:
                raise unknown_path(exchange.method, exchange.path)
            raise exchange.route.method_not_allowed(exchange.method)
        message = operation.reader.read(exchange)
        public_url = self._public_url.of(exchange)
        metadata: Metadata = ((REQUEST_ID_KEY, exchange.request_id), (PUBLIC_URL_KEY, public_url))
        if exchange.token is not None:
            metadata = (*metadata, (PRINCIPAL_KEY, exchange.token.serialized_principal))
        try:
            reply, trailing = await self._call(exchange.method, operation.rpc_path, message, metadata, receive)
        except grpc.aio.AioRpcError as error:
            api_error = from_rpc_error(error)
            if operation.rpc_path != root.RPC_PATH or api_error.status < 500:
                raise api_error from error
            content_type, body = self._root_fallback(exchange, public_url)
            await respond(exchange, send, 200, [(b"content-type", content_type.encode())], body)
            return
        await _answer(exchange, send, operation, reply, trailing)

    async def _call(
        self, method: str, rpc_path: str, message: Message, metadata: Metadata, receive: Receive
    ) -> tuple[HttpBody, Any]:
        """Calls the RPC, for a read more than once when nobody was there to answer."""
        if method in _READS:
            return await repeated(
                lambda seconds: self._call_once(rpc_path, message, metadata, receive, seconds), self._timeout_seconds
            )
        return await self._call_once(rpc_path, message, metadata, receive, self._timeout_seconds)

    async def _call_once(
        self, rpc_path: str, message: Message, metadata: Metadata, receive: Receive, timeout_seconds: float
    ) -> tuple[HttpBody, Any]:
        call = self._calls[rpc_path](message, timeout=timeout_seconds, metadata=metadata)
        watch = _DisconnectWatch(call, receive)
        try:
            reply = await call
            return reply, await call.trailing_metadata()
        except asyncio.CancelledError:
            if watch.disconnected:
                raise ClientDisconnected from None
            raise
        finally:
            watch.stop()


class _DisconnectWatch:
    """Cancels a call that takes long when its client disconnects. Costs a timer when it does not take long."""

    __slots__ = ("_call", "_receive", "_task", "_timer", "disconnected")

    def __init__(self, call: Any, receive: Receive) -> None:
        self._call = call
        self._receive = receive
        self._task: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(WATCH_AFTER_SECONDS, self._start)
        self.disconnected = False

    def stop(self) -> None:
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.disconnected = True
        self._call.cancel()


def _callable(operation: HttpOperation, channels: Mapping[str, grpc.aio.Channel]) -> Call:
    """The method of the generated stub, which prepares more of a call beforehand than the bare channel does."""
    service = operation.method.containing_service
    module = import_module(service.file.name.removesuffix(".proto").replace("/", ".") + "_pb2_grpc")
    stub = getattr(module, f"{service.name}Stub")(channels[operation.service])
    method: Call = getattr(stub, operation.method.name)
    return method


async def _answer(exchange: Exchange, send: Send, operation: Operation, reply: HttpBody, trailing: Any) -> None:
    status = operation.success_status
    headers: RawHeaders = []
    etag: bytes | None = None
    sets_cookie = False
    for key, value in trailing:
        if key.startswith(HTTP_HEADER_PREFIX):
            name = key[len(HTTP_HEADER_PREFIX) :].encode()
            raw = value.encode("latin-1")
            headers.append((name, raw))
            if name == b"etag":
                etag = raw
            elif name == b"set-cookie":
                sets_cookie = True
        elif key == HTTP_STATUS_KEY:
            status = int(value)
    if status == 200 and etag is not None and exchange.method in _READS and not operation.embeds:
        if_none_match = exchange.headers.get(b"if-none-match")
        if if_none_match is not None and is_not_modified(if_none_match, etag):
            await respond(exchange, send, 304, headers)
            return
    body = reply.data
    if body and status not in (204, 304):
        headers.append((b"content-type", reply.content_type.encode()))
        # An answer with a cookie holds secrets beside what the client sent, and its size must not tell
        # about them (the BREACH attack). The entity tag stays the same when compressed: clients send it
        # back in If-Match, and no cache may keep the answer anyway.
        if not sets_cookie and compression.is_worthwhile(reply.content_type, body):
            headers.append(_VARY)
            if compression.accepts_gzip(exchange.headers.get(b"accept-encoding")):
                body = await compression.gzip(body)
                headers.append((b"content-encoding", b"gzip"))
    await respond(exchange, send, status, headers, body)
