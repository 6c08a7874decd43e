"""GET /config and GET /saml/providers: what a web client reads before anybody has logged in."""

import orjson

from services.shared.principal import Call
from services.shared.rpc import Reply
from services.shared.settings import Settings
from tmi.auth.v1.client_configuration_pb2 import GetClientConfigRequest, ListSamlProvidersRequest

_CONFIG_MAX_AGE_SECONDS = 300
_PROVIDERS_MAX_AGE_SECONDS = 3600
_MEBIBYTE = 1024 * 1024
_MOST_IN_CONTRACT = 100
"""The contract's greatest value for both limits. There is none of our own for the participants of a session."""


class ClientConfiguration:
    """Handlers of the two RPCs."""

    def __init__(self, settings: Settings) -> None:
        operator = {"name": settings.operator_name, "contact": settings.operator_contact}
        self._config = orjson.dumps(
            {
                "features": {
                    "websocket_enabled": True,
                    "saml_enabled": False,
                    "webhooks_enabled": False,
                    "timmy_enabled": False,
                },
                "operator": {name: value for name, value in operator.items() if value},
                "limits": {
                    "max_file_upload_mb": min(max(settings.max_body_bytes // _MEBIBYTE, 1), _MOST_IN_CONTRACT),
                    "max_diagram_participants": _MOST_IN_CONTRACT,
                },
                "ui": {"default_theme": "auto"},
                "content_providers": [],
            }
        )

    def get_client_config(self, _request: GetClientConfigRequest, _call: Call) -> Reply:
        """What this installation has, and who runs it."""
        return Reply(self._config, headers=_public(_CONFIG_MAX_AGE_SECONDS))

    def list_saml_providers(self, _request: ListSamlProvidersRequest, _call: Call) -> Reply:
        """The SAML providers a login page can offer."""
        return Reply(b'{"providers":[]}', headers=_public(_PROVIDERS_MAX_AGE_SECONDS))


def _public(seconds: int) -> list[tuple[str, str]]:
    return [("cache-control", f"public, max-age={seconds}")]
