"""Prometheus metrics that every process has, and the port that serves them."""

from prometheus_client import Counter, Histogram, start_http_server

from services.shared.startup import CannotStart

RPC_SECONDS = Histogram(
    "tmi_rpc_duration_seconds",
    "Time to answer a gRPC call.",
    ["method", "code"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
ERRORS = Counter("tmi_unexpected_errors_total", "Errors that no code expected.", ["where"])


def serve(interface: str, port: int) -> None:
    """Serves /metrics on its own port; 0 switches it off. Raises CannotStart when the port is taken."""
    if not port:
        return
    try:
        start_http_server(port, addr=interface)
    except OSError as error:
        raise CannotStart(
            f"cannot serve metrics on port {port} ({error.strerror}): "
            "set TMI_METRICS_PORT to another port, or to 0 for none."
        ) from error
