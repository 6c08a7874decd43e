import pytest

from services.shared.settings import Settings
from tests.auth.client import Answer, AuthClient
from tests.auth.conftest import Start
from tmi.auth.v1.client_configuration_pb2 import GetClientConfigRequest, ListSamlProvidersRequest


def config(client: AuthClient) -> Answer:
    return client.call(client.configuration.GetClientConfig, GetClientConfigRequest())


def test_the_configuration_of_a_client_names_what_there_is(client: AuthClient) -> None:
    answer = config(client)
    assert answer.json == {
        "features": {
            "websocket_enabled": True,
            "saml_enabled": False,
            "webhooks_enabled": False,
            "timmy_enabled": False,
        },
        "operator": {},
        "limits": {"max_file_upload_mb": 5, "max_diagram_participants": 100},
        "ui": {"default_theme": "auto"},
        "content_providers": [],
    }
    assert dict(answer.headers)["cache-control"] == "public, max-age=300"


def test_the_operator_is_named(start: Start) -> None:
    client = start(operator_name="Example AG", operator_contact="https://example.com/help").client
    assert config(client).json["operator"] == {"name": "Example AG", "contact": "https://example.com/help"}


@pytest.mark.parametrize(("max_body_bytes", "megabytes"), [(1000, 1), (7 * 1024 * 1024 + 1, 7), (2**30, 100)])
def test_the_largest_upload_is_told_within_the_range_of_the_contract(
    start: Start, max_body_bytes: int, megabytes: int
) -> None:
    assert Settings().max_body_bytes == 5 * 1024 * 1024
    assert config(start(max_body_bytes=max_body_bytes).client).json["limits"]["max_file_upload_mb"] == megabytes


def test_there_is_no_saml_provider_as_long_as_none_is_configured(client: AuthClient) -> None:
    answer = client.call(client.configuration.ListSamlProviders, ListSamlProvidersRequest())
    assert answer.json == {"providers": []}
    assert dict(answer.headers)["cache-control"] == "public, max-age=3600"
