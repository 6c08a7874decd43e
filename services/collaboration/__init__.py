"""Real-time collaboration: sessions over REST, rooms of live sockets, and the relay between replicas."""

# Before anything imports grpc, whose own log lines it switches off.
import services.shared  # noqa: F401
