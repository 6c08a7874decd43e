"""Whether this process wants to be sent requests."""

from services.shared.errors import unavailable

READINESS_PATH = "/readyz"


class Readiness:
    """Ready until it is told that the end is near."""

    def __init__(self) -> None:
        self.stopping = False

    def stop(self) -> None:
        """From now on this process serves what comes and asks for nothing more."""
        self.stopping = True

    def require(self) -> None:
        """Raises ApiError 503 when the process is about to stop."""
        if self.stopping:
            raise unavailable("This gateway is about to stop.")
