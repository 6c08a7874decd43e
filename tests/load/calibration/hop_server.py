"""A gRPC server with a thread pool that answers nothing: `python -m tests.load.calibration.hop_server`.

Prints its port.
"""

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
from google.protobuf.empty_pb2 import Empty

THREADS = 8
METHOD = "/calibration.Hop/Call"


def main() -> None:
    """Serves until it is stopped."""
    server = grpc.server(ThreadPoolExecutor(THREADS))
    _, service, method = METHOD.split("/")
    call = grpc.unary_unary_rpc_method_handler(
        lambda request, _: request, request_deserializer=Empty.FromString, response_serializer=Empty.SerializeToString
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: call}),))
    sys.stdout.write(f"{server.add_insecure_port('127.0.0.1:0')}\n")
    sys.stdout.flush()
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
