"""The gateway's WebSockets: admission, connections, and one stream per session to a collaboration replica."""
