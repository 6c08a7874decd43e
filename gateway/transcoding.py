"""The one endpoint: an HTTP request becomes a call of the operation's RPC, its result the answer."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import grpc
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from starlette.types import Receive, Scope, Send

from gateway import compression, root
from gateway.calls import DisconnectWatch, again_for_reads, head_of_answer
from gateway.conditional import is_not_modified
from gateway.exchange import Exchange, exchange_of
from gateway.http_methods import READS
from gateway.public_url import PublicUrl
from gateway.responses import respond
from gateway.root import Fallback
from gateway.routes import Operation, unknown_path
from gateway.streaming import relay
from services.shared.errors import from_rpc_error
from services.shared.operations import HttpOperation
from services.shared.principal import PRINCIPAL_KEY, PUBLIC_URL_KEY, REQUEST_ID_KEY

Metadata = tuple[tuple[str, str | bytes], ...]
Call = Callable[..., Any]

WATCH_AFTER_SECONDS = 1.0
"""How long a call runs before anybody looks whether its client is still there."""
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
        stream_idle_seconds: float,
        root_fallback: Fallback,
    ) -> None:
        self._calls = {operation.rpc_path: _callable(operation, channels) for operation in operations}
        self._public_url = public_url
        self._timeout_seconds = timeout_seconds
        self._stream_idle_seconds = stream_idle_seconds
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
            if operation.streams:
                await relay(
                    exchange,
                    receive,
                    send,
                    lambda: self._calls[operation.rpc_path](message, metadata=metadata),
                    success_status=operation.success_status,
                    first_seconds=self._timeout_seconds,
                    idle_seconds=self._stream_idle_seconds,
                )
                return
            reply, trailing = await again_for_reads(
                exchange.method,
                lambda seconds: self._call(operation.rpc_path, message, metadata, receive, seconds),
                self._timeout_seconds,
            )
        except grpc.aio.AioRpcError as error:
            api_error = from_rpc_error(error)
            if operation.rpc_path != root.RPC_PATH or api_error.status < 500:
                raise api_error from error
            content_type, body = self._root_fallback(exchange, public_url)
            await respond(exchange, send, 200, [(b"content-type", content_type.encode())], body)
            return
        await _answer(exchange, send, operation, reply, trailing)

    async def _call(
        self, rpc_path: str, message: Message, metadata: Metadata, receive: Receive, timeout_seconds: float
    ) -> tuple[HttpBody, Any]:
        call = self._calls[rpc_path](message, timeout=timeout_seconds, metadata=metadata)
        with DisconnectWatch(call.cancel, receive, after_seconds=WATCH_AFTER_SECONDS):
            reply = await call
            return reply, await call.trailing_metadata()


def _callable(operation: HttpOperation, channels: Mapping[str, grpc.aio.Channel]) -> Call:
    channel: Any = channels[operation.service]
    make = channel.unary_stream if operation.streams else channel.unary_unary
    method: Call = make(
        operation.rpc_path,
        request_serializer=GetMessageClass(operation.method.input_type).SerializeToString,
        response_deserializer=HttpBody.FromString,
        _registered_method=True,  # as in generated stubs: what can be prepared of a call is prepared once
    )
    return method


async def _answer(exchange: Exchange, send: Send, operation: Operation, reply: HttpBody, trailing: Any) -> None:
    status, headers = head_of_answer(trailing, operation.success_status)
    etag = next((value for name, value in headers if name == b"etag"), None)
    sets_cookie = any(name == b"set-cookie" for name, _ in headers)
    if status == 200 and etag is not None and exchange.method in READS and not operation.embeds:
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
