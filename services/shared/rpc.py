"""Binding handlers to the RPCs of a service: authorization, errors, metrics and answers in one place.

A handler takes (request, call) and returns a message, or a Reply or Stream for an HTTP operation. It raises
ApiError for what the client should know; anything else becomes a 500 that says nothing. So does the
answer of a handler that has not required the role which its operation declares.
"""

import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, NoReturn

import grpc
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from services.shared import deadline, log, metrics
from services.shared.access import Requirement
from services.shared.errors import STATUS_DETAILS_KEY, ApiError
from services.shared.operations import operations_of
from services.shared.principal import Call, authorize, call_from_metadata, current_call
from services.shared.startup import CannotStart

logger = logging.getLogger(__name__)

HTTP_STATUS_KEY = "x-http-status"
HTTP_HEADER_PREFIX = "x-http-header-"

MESSAGE_LIMIT_BYTES = 64 * 1024 * 1024
METADATA_LIMIT_BYTES = 64 * 1024
"""Of a call, in each direction: principal, cookies, errors. gRPC refuses at random between its two limits."""
# A peer that is frozen, or gone without a word, is noticed at both ends within 7 s: a ping after 3 s, and
# 4 s for its answer. gRPC waits for that as long as ping_timeout_ms says; keepalive_timeout_ms is only how
# long the kernel may fail to hand data over (TCP_USER_TIMEOUT). The time must stay below what presence
# lasts without a heartbeat, and the pings must go on when nothing else is said.
KEEPALIVE_OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.keepalive_time_ms", 3_000),
    ("grpc.keepalive_timeout_ms", 4_000),
    ("grpc.http2.ping_timeout_ms", 4_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    # What a server allows its clients: pings that come more often end the connection (too_many_pings).
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
)
CHANNEL_OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.max_metadata_size", METADATA_LIMIT_BYTES),
    ("grpc.absolute_max_metadata_size", METADATA_LIMIT_BYTES),
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    *KEEPALIVE_OPTIONS,
)
SERVER_OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.max_metadata_size", METADATA_LIMIT_BYTES),
    ("grpc.absolute_max_metadata_size", METADATA_LIMIT_BYTES),
    ("grpc.so_reuseport", 0),
    *KEEPALIVE_OPTIONS,
)


@dataclass(slots=True)
class Reply:
    """Answer of an HTTP operation. status 0 means the declared success status."""

    body: bytes = b""
    status: int = 0
    content_type: str = "application/json"
    headers: list[tuple[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class Stream:
    """Answer of an HTTP operation that streams.

    It begins with the first chunk, which may be empty; what is raised before is answered like any error,
    what is raised later breaks the answer off. The generator is closed when the client goes.
    """

    chunks: AsyncGenerator[bytes, None]
    status: int = 0
    content_type: str = "text/event-stream"
    headers: list[tuple[str, str]] = field(default_factory=list)


Handler = Callable[[Any, Call], Any]
AsyncHandler = Callable[[Any, Call], Awaitable[Any]]
BidirectionalHandler = Callable[[Any, Call], Any]
Translate = Callable[[Exception], ApiError | None]


def target(addresses: list[str]) -> str:
    """gRPC target for one or several replicas (`host:port`, or a full gRPC target by itself)."""
    if len(addresses) == 1:
        return addresses[0]
    return "ipv4:" + ",".join(addresses)


def add_service(
    server: grpc.Server,
    service: ServiceDescriptor,
    handlers: Mapping[str, Handler],
    translate: Translate = lambda _: None,
) -> None:
    """Serves `service` with synchronous handlers by RPC name.

    Raises CannotStart when one is missing, and for an RPC that streams: those are for asynchronous services.
    """
    for method in service.methods:
        if method.client_streaming or method.server_streaming:
            raise CannotStart(f"{method.full_name} streams, which a synchronous service cannot.")
    bound = {
        method.name: grpc.unary_unary_rpc_method_handler(
            _sync_behavior(method, handlers[method.name], translate), *_codec(method)
        )
        for method in _complete(service, handlers)
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, bound),))


def add_async_service(
    server: grpc.aio.Server,
    service: ServiceDescriptor,
    handlers: Mapping[str, AsyncHandler | BidirectionalHandler],
    translate: Translate = lambda _: None,
) -> None:
    """Serves `service` with coroutine handlers; that of an internal bidirectional RPC is an async generator.

    An HTTP operation that streams is answered with a Stream. Raises CannotStart when a handler is missing,
    and for other kinds of streaming.
    """
    bound: dict[str, Any] = {}
    for method in _complete(service, handlers):
        is_http = bool(operations_of(method))
        make: Any
        behavior: Any
        match method.client_streaming, method.server_streaming:
            case False, False:
                make, behavior = grpc.unary_unary_rpc_method_handler, _async_behavior
            case False, True if is_http:
                make, behavior = grpc.unary_stream_rpc_method_handler, _streaming_behavior
            case True, True if not is_http:
                make, behavior = grpc.stream_stream_rpc_method_handler, _bidirectional_behavior
            case _:
                raise CannotStart(f"{method.full_name} streams in a way that is not implemented.")
        bound[method.name] = make(behavior(method, handlers[method.name], translate), *_codec(method))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, bound),))


def _complete(service: ServiceDescriptor, handlers: Mapping[str, Any]) -> list[MethodDescriptor]:
    names = {method.name for method in service.methods}
    if names != set(handlers):
        raise CannotStart(f"{service.full_name}: RPCs and handlers differ in {sorted(names ^ set(handlers))}.")
    return list(service.methods)


def _codec(method: MethodDescriptor) -> tuple[Callable[[bytes], Message], Callable[[Message], bytes]]:
    request_class = GetMessageClass(method.input_type)
    return request_class.FromString, lambda message: message.SerializeToString()


def _requirement(method: MethodDescriptor) -> Requirement | None:
    operations = operations_of(method)
    return operations[0].requirement if operations else None


def _begin(requirement: Requirement | None, context: Any) -> Call:
    call = call_from_metadata(requirement, context.invocation_metadata())
    log.request_id.set(call.request_id)
    current_call.set(call)
    authorize(call)
    return call


def _answer(call: Call, result: Any, context: Any) -> Message:
    call.ensure_required()
    if call.requirement is None:
        assert isinstance(result, Message)
        return result
    assert isinstance(result, Reply)
    if trailing := _head(result):
        context.set_trailing_metadata(trailing)
    body: Message = HttpBody(content_type=result.content_type, data=result.body)
    return body


def _head(answer: Reply | Stream) -> tuple[tuple[str, str], ...]:
    """Status and headers of an answer as metadata."""
    head = [(HTTP_HEADER_PREFIX + name.lower(), value) for name, value in answer.headers]
    if answer.status:
        head.append((HTTP_STATUS_KEY, str(answer.status)))
    return tuple(head)


def _as_api_error(error: Exception, translate: Translate, where: str) -> ApiError:
    if isinstance(error, ApiError):
        return error
    if translated := translate(error):
        logger.warning("call failed", extra={"method": where, "error": type(error).__name__})
        return translated
    metrics.ERRORS.labels(where).inc()
    logger.error("unexpected error", extra={"method": where}, exc_info=error)
    return ApiError(500, "server_error", "An internal error occurred.")


def _observe(where: str, code: str, started: float) -> None:
    metrics.RPC_SECONDS.labels(where, code).observe(time.perf_counter() - started)


def _sync_behavior(method: MethodDescriptor, handler: Handler, translate: Translate) -> Callable[[Any, Any], Message]:
    requirement = _requirement(method)
    where = method.full_name

    def behave(request: Any, context: grpc.ServicerContext) -> Message:
        started = time.perf_counter()
        deadline.follow(context)
        try:
            call = _begin(requirement, context)
            answer = _answer(call, handler(request, call), context)
        except Exception as error:
            api_error = _as_api_error(error, translate, where)
            _observe(where, api_error.code, started)
            _abort(context, api_error)
        _observe(where, "ok", started)
        return answer

    return behave


def _abort(context: grpc.ServicerContext, error: ApiError) -> NoReturn:
    context.set_trailing_metadata(((STATUS_DETAILS_KEY, error.status_details()),))
    context.abort(error.grpc_code, error.message)
    raise AssertionError("abort returns")


def _async_behavior(
    method: MethodDescriptor, handler: AsyncHandler, translate: Translate
) -> Callable[[Any, Any], Awaitable[Message]]:
    requirement = _requirement(method)
    where = method.full_name

    async def behave(request: Any, context: Any) -> Message:
        started = time.perf_counter()
        try:
            call = _begin(requirement, context)
            answer = _answer(call, await handler(request, call), context)
        except Exception as error:
            api_error = _as_api_error(error, translate, where)
            _observe(where, api_error.code, started)
            context.set_trailing_metadata(((STATUS_DETAILS_KEY, api_error.status_details()),))
            await context.abort(api_error.grpc_code, api_error.message)
            raise AssertionError("abort returns") from error
        _observe(where, "ok", started)
        return answer

    return behave


def _streaming_behavior(
    method: MethodDescriptor, handler: AsyncHandler, translate: Translate
) -> Callable[[Any, Any], Awaitable[None]]:
    requirement = _requirement(method)
    where = method.full_name

    async def behave(request: Any, context: Any) -> None:
        started = time.perf_counter()
        code = "cancelled"
        try:
            call = _begin(requirement, context)
            stream = await handler(request, call)
            assert isinstance(stream, Stream)
            call.ensure_required()
            await _send_chunks(stream, context)
            code = "ok"
        except Exception as error:
            api_error = _as_api_error(error, translate, where)
            code = api_error.code
            context.set_trailing_metadata(((STATUS_DETAILS_KEY, api_error.status_details()),))
            await context.abort(api_error.grpc_code, api_error.message)
        finally:
            _observe(where, code, started)

    return behave


async def _send_chunks(stream: Stream, context: Any) -> None:
    """Sends status and headers with the first chunk, and each chunk as soon as it is there.

    Where there is no chunk an empty one is sent: grpc.aio may lose the initial metadata of a call that ends
    without a message.
    """
    has_begun = False

    async def send(chunk: bytes) -> None:
        nonlocal has_begun
        if not has_begun:
            await context.send_initial_metadata(_head(stream))
        await context.write(HttpBody(content_type="" if has_begun else stream.content_type, data=chunk))
        has_begun = True

    async with aclosing(stream.chunks) as chunks:
        async for chunk in chunks:
            await send(chunk)
    if not has_begun:
        await send(b"")


def _bidirectional_behavior(
    method: MethodDescriptor, handler: BidirectionalHandler, translate: Translate
) -> Callable[[Any, Any], Any]:
    where = method.full_name

    async def behave(requests: Any, context: Any) -> Any:
        try:
            async for answer in handler(requests, _begin(None, context)):
                yield answer
        except Exception as error:
            api_error = _as_api_error(error, translate, where)
            context.set_trailing_metadata(((STATUS_DETAILS_KEY, api_error.status_details()),))
            await context.abort(api_error.grpc_code, api_error.message)

    return behave
