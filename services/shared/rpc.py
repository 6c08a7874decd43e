"""Binding handlers to the RPCs of a service: authorization, errors, metrics and answers in one place.

A handler takes (request, call) and returns a message, or a Reply for an HTTP operation. It raises
ApiError for what the client should know; anything else becomes a 500 that says nothing.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import grpc
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from services.shared import log, metrics
from services.shared.errors import STATUS_DETAILS_KEY, ApiError
from services.shared.operations import HttpOperation, declaration_of
from services.shared.principal import Call, authorize, call_from_metadata

logger = logging.getLogger(__name__)

HTTP_STATUS_KEY = "x-http-status"
HTTP_HEADER_PREFIX = "x-http-header-"

MESSAGE_LIMIT_BYTES = 64 * 1024 * 1024
METADATA_LIMIT_BYTES = 64 * 1024
"""Of a call, in each direction: principal, cookies, errors. gRPC refuses at random between its two limits."""
CHANNEL_OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.max_metadata_size", METADATA_LIMIT_BYTES),
    ("grpc.absolute_max_metadata_size", METADATA_LIMIT_BYTES),
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
)
SERVER_OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.max_metadata_size", METADATA_LIMIT_BYTES),
    ("grpc.absolute_max_metadata_size", METADATA_LIMIT_BYTES),
    ("grpc.so_reuseport", 0),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
)


@dataclass(slots=True)
class Reply:
    """Answer of an HTTP operation. status 0 means the declared success status."""

    body: bytes = b""
    status: int = 0
    content_type: str = "application/json"
    headers: list[tuple[str, str]] = field(default_factory=list)


Handler = Callable[[Any, Call], Any]
AsyncHandler = Callable[[Any, Call], Awaitable[Any]]
StreamHandler = Callable[[Any, Call], Any]
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
    """Serves `service` with synchronous handlers by RPC name. Raises ValueError when one is missing."""
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
    handlers: Mapping[str, AsyncHandler | StreamHandler],
    translate: Translate = lambda _: None,
) -> None:
    """Serves `service` with coroutine handlers; a bidirectional RPC's handler is an async generator."""
    bound: dict[str, Any] = {}
    for method in _complete(service, handlers):
        if method.client_streaming:
            bound[method.name] = grpc.stream_stream_rpc_method_handler(
                _stream_behavior(method, handlers[method.name], translate), *_codec(method)
            )
        else:
            bound[method.name] = grpc.unary_unary_rpc_method_handler(
                _async_behavior(method, handlers[method.name], translate), *_codec(method)
            )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, bound),))


def _complete(service: ServiceDescriptor, handlers: Mapping[str, Any]) -> list[MethodDescriptor]:
    names = {method.name for method in service.methods}
    if names != set(handlers):
        raise ValueError(f"{service.full_name}: RPCs and handlers differ in {sorted(names ^ set(handlers))}")
    return list(service.methods)


def _codec(method: MethodDescriptor) -> tuple[Callable[[bytes], Message], Callable[[Message], bytes]]:
    request_class = GetMessageClass(method.input_type)
    return request_class.FromString, lambda message: message.SerializeToString()


def _begin(operation: HttpOperation | None, context: Any) -> Call:
    call = call_from_metadata(operation, context.invocation_metadata())
    log.request_id.set(call.request_id)
    authorize(call)
    return call


def _answer(operation: HttpOperation | None, result: Any, context: Any) -> Message:
    if operation is None:
        assert isinstance(result, Message)
        return result
    assert isinstance(result, Reply)
    trailing = [(HTTP_HEADER_PREFIX + name.lower(), value) for name, value in result.headers]
    if result.status:
        trailing.append((HTTP_STATUS_KEY, str(result.status)))
    if trailing:
        context.set_trailing_metadata(tuple(trailing))
    body: Message = HttpBody(content_type=result.content_type, data=result.body)
    return body


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
    operation = declaration_of(method)
    where = method.full_name

    def behave(request: Any, context: grpc.ServicerContext) -> Message:
        started = time.perf_counter()
        try:
            call = _begin(operation, context)
            answer = _answer(operation, handler(request, call), context)
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
    operation = declaration_of(method)
    where = method.full_name

    async def behave(request: Any, context: Any) -> Message:
        started = time.perf_counter()
        try:
            call = _begin(operation, context)
            answer = _answer(operation, await handler(request, call), context)
        except Exception as error:
            api_error = _as_api_error(error, translate, where)
            _observe(where, api_error.code, started)
            context.set_trailing_metadata(((STATUS_DETAILS_KEY, api_error.status_details()),))
            await context.abort(api_error.grpc_code, api_error.message)
            raise AssertionError("abort returns") from error
        _observe(where, "ok", started)
        return answer

    return behave


def _stream_behavior(
    method: MethodDescriptor, handler: StreamHandler, translate: Translate
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
