"""What every process of the system needs and nothing else: bootstrap, settings, errors, identity."""

import os

# gRPC's core writes its own lines to stderr, between ours; every failure also reaches us as an
# exception or a status. Read when grpc is first imported, so it is set here.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
