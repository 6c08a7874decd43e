"""The stages of a request, one ASGI middleware a module. `gateway.app` puts them in order."""
