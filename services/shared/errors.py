"""Errors with a stable code, and how they cross gRPC.

A service raises ApiError. The RPC wrapper turns it into a gRPC status whose details are one
google.rpc.ErrorInfo; `from_rpc_error` turns that back, in another service or in the gateway.

All of that travels as metadata, which is bounded (`grpc.max_metadata_size`): a message or details
that repeat what a client sent are cut here, so that a 400 never becomes a 500 on its way.
"""

import json
from collections.abc import Mapping
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

ERROR_DOMAIN = "tmi"
STATUS_DETAILS_KEY = "grpc-status-details-bin"

LONGEST_MESSAGE_BYTES = 1000
LARGEST_DETAILS_BYTES = 8 * 1024
_DETAILS_CUTS = ((500, 100), (200, 20), (80, 5))
"""Characters of a string and members of a list or object that are kept, more and more strictly."""

_GRPC_CODES: dict[int, grpc.StatusCode] = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}


class ApiError(Exception):
    """An error the client is told about.

    status: HTTP status. code: stable machine-readable `error`. message: `error_description`.
    headers: response headers such as Retry-After. details: the contract's `details` object, whose
    members are `code`, `context` (an object) and `suggestion`. A message of more than
    LONGEST_MESSAGE_BYTES in UTF-8 and details of more than LARGEST_DETAILS_BYTES in JSON are cut.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        headers: Mapping[str, str] | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        self.message = message.encode("utf-8", "replace")[:LONGEST_MESSAGE_BYTES].decode("utf-8", "ignore")
        super().__init__(self.message)
        self.status = status
        self.code = code
        self.headers = dict(headers or {})
        self.details = _fitting(details or {})

    @property
    def grpc_code(self) -> grpc.StatusCode:
        """The gRPC code that callers without knowledge of ErrorInfo see."""
        fallback = grpc.StatusCode.INTERNAL if self.status >= 500 else grpc.StatusCode.INVALID_ARGUMENT
        return _GRPC_CODES.get(self.status, fallback)

    def status_details(self) -> bytes:
        """Value of `grpc-status-details-bin`."""
        info = ErrorInfo(reason=self.code, domain=ERROR_DOMAIN, metadata={"http_status": str(self.status)})
        for name, value in self.headers.items():
            info.metadata[f"header:{name}"] = value
        if self.details:
            info.metadata["details"] = _json(self.details)
        packed = AnyMessage()
        packed.Pack(info)
        status = Status(code=self.grpc_code.value[0], message=self.message, details=[packed])
        return bytes(status.SerializeToString())


def _fitting(details: Mapping[str, Any]) -> dict[str, Any]:
    """The details, or as much of them as fits."""
    fitting = dict(details)
    for characters, members in _DETAILS_CUTS:
        if len(_json(fitting).encode()) <= LARGEST_DETAILS_BYTES:
            return fitting
        fitting = _cut(fitting, characters, members)
    return fitting if len(_json(fitting).encode()) <= LARGEST_DETAILS_BYTES else {}


def _cut(value: Any, characters: int, members: int) -> Any:
    if isinstance(value, str):
        return value if len(value) <= characters else value[:characters] + "…"
    if isinstance(value, Mapping):
        return {
            str(name)[:characters]: _cut(member, characters, members) for name, member in [*value.items()][:members]
        }
    if isinstance(value, list | tuple):
        return [_cut(member, characters, members) for member in value[:members]]
    return value


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def from_rpc_error(error: Any) -> ApiError:
    """The ApiError that a failed call (grpc.RpcError of either API) stands for; others become 503 or 500."""
    for key, value in error.trailing_metadata() or ():
        if key == STATUS_DETAILS_KEY:
            status = Status.FromString(value)
            for detail in status.details:
                info = ErrorInfo()
                if detail.Unpack(info) and info.domain == ERROR_DOMAIN:
                    return _from_error_info(info, status.message)
    code = error.code()
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
        return unavailable("The service is not available at the moment.")
    return ApiError(500, "server_error", "An internal error occurred.")


def _from_error_info(info: ErrorInfo, message: str) -> ApiError:
    headers = {
        name.removeprefix("header:"): value for name, value in info.metadata.items() if name.startswith("header:")
    }
    details = json.loads(info.metadata["details"]) if "details" in info.metadata else None
    return ApiError(int(info.metadata["http_status"]), info.reason, message, headers=headers, details=details)


def invalid_input(message: str, *, details: Mapping[str, Any] | None = None) -> ApiError:
    """400 for a body or parameter that breaks its rules."""
    return ApiError(400, "invalid_input", message, details=details)


def invalid_id(message: str) -> ApiError:
    """400 for an identifier that is not well formed."""
    return ApiError(400, "invalid_id", message)


def invalid_request(message: str) -> ApiError:
    """400 for a request that breaks the protocol rather than a field's rule."""
    return ApiError(400, "invalid_request", message)


def unauthorized(message: str = "Authentication required.") -> ApiError:
    """401 for a request without a valid access token. RFC 6750 section 3."""
    return ApiError(401, "unauthorized", message, headers={"WWW-Authenticate": 'Bearer realm="tmi"'})


def forbidden(message: str = "You may not do this.") -> ApiError:
    """403 for a caller without the role the operation declares."""
    return ApiError(403, "forbidden", message)


def not_found(message: str) -> ApiError:
    """404 for something that does not exist, was deleted or has another parent."""
    return ApiError(404, "not_found", message)


def gone(message: str) -> ApiError:
    """410 for what was kept once and is not kept any more."""
    return ApiError(410, "gone", message)


def conflict(message: str, code: str = "conflict") -> ApiError:
    """409 for a change that the present state does not allow."""
    return ApiError(409, code, message)


def payload_too_large(message: str) -> ApiError:
    """413 for what is, or would become, larger than can be stored and delivered."""
    return ApiError(413, "payload_too_large", message)


def unavailable(message: str, retry_after_seconds: int = 5) -> ApiError:
    """503 for a store or service that cannot be reached."""
    return ApiError(503, "service_unavailable", message, headers={"Retry-After": str(retry_after_seconds)})
