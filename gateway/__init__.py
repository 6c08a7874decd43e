"""The HTTP and WebSocket edge: turns requests into calls of the services and knows none of them by name."""
