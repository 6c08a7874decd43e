"""Whether a process of the stack answers: grpc.health.v1 for a service, /readyz for a gateway."""

from collections.abc import Callable

import grpc
import httpx
from grpc_health.v1 import health_pb2, health_pb2_grpc

_TIMEOUT_SECONDS = 1.0


def grpc_serving(address: str) -> Callable[[], bool]:
    """A check that the gRPC server at `host:port` calls itself SERVING."""

    def check() -> bool:
        with grpc.insecure_channel(address) as channel:
            try:
                answer = health_pb2_grpc.HealthStub(channel).Check(
                    health_pb2.HealthCheckRequest(), timeout=_TIMEOUT_SECONDS
                )
            except grpc.RpcError:
                return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    return check


def http_ok(url: str) -> Callable[[], bool]:
    """A check that GET on the URL answers 200."""

    def check() -> bool:
        try:
            return httpx.get(url, timeout=_TIMEOUT_SECONDS, trust_env=False).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    return check
