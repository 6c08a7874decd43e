"""Configuration of every process: environment variables, then a YAML file, then defaults.

The names are those of the integration guide; lists are comma-separated in the environment.
`TMI_CONFIG_FILE` names the YAML file, whose keys are the names below without the prefix.
"""

import os
from functools import cache
from ipaddress import ip_address
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

BuildMode = Literal["dev", "test", "production"]


def _split(value: object) -> object:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _require_ip_addresses(addresses: list[str]) -> list[str]:
    """gRPC resolves one name to many addresses, but takes a list only of addresses."""
    if len(addresses) > 1:
        for address in addresses:
            try:
                ip_address(address.rpartition(":")[0].strip("[]"))
            except ValueError as error:
                raise ValueError(
                    f"{address!r} is no IP address with a port: name several replicas by their addresses, "
                    "or by one DNS name that resolves to all of them (dns:///name:port)"
                ) from error
    return addresses


def _require_origins(origins: list[str]) -> list[str]:
    """Origins (RFC 6454 section 6.2) without a trailing slash: they are compared as they are sent."""
    normalised = []
    for origin in origins:
        parts = urlsplit(origin.rstrip("/"))
        if parts.scheme not in ("http", "https") or not parts.hostname or "*" in origin or parts.path or parts.query:
            raise ValueError(f"{origin!r} is no origin such as https://tmi.example.com")
        normalised.append(f"{parts.scheme}://{parts.netloc.lower()}")
    return normalised


CommaList = Annotated[list[str], NoDecode, BeforeValidator(_split)]
OriginList = Annotated[CommaList, AfterValidator(_require_origins)]
ReplicaList = Annotated[CommaList, AfterValidator(_require_ip_addresses)]

_DEVELOPMENT_ORIGINS = ("http://localhost:4200", "http://localhost:8079")
_DEVELOPMENT_CALLBACK_PATHS = ("/oauth2/callback", "/oauth2/link/callback")
_CALLBACK_PATH = "/oauth2/callback"


class Settings(BaseSettings):
    """Effective settings of one process."""

    model_config = SettingsConfigDict(env_prefix="TMI_", env_ignore_empty=True, extra="ignore")

    build_mode: BuildMode = "production"

    # Gateway
    server_interface: str = "127.0.0.1"
    server_port: int = 8080
    public_url: str = ""
    trusted_proxies: CommaList = []
    cors_allowed_origins: OriginList = []
    websocket_allowed_origins: OriginList = []
    max_body_bytes: int = 5 * 1024 * 1024
    max_buffered_body_bytes: int = 256 * 1024 * 1024
    max_head_bytes: int = 64 * 1024
    max_header_fields: int = 100
    max_unread_bytes: int = 256 * 1024 * 1024
    max_connections_per_address: int = 512
    head_timeout_seconds: float = 15.0
    body_timeout_seconds: float = 30.0
    write_timeout_seconds: float = 30.0
    websocket_max_message_bytes: int = 1024 * 1024
    websocket_close_above_bytes: int = 8 * 1024 * 1024
    websocket_queue_messages: int = 256
    request_timeout_seconds: float = 30.0
    stream_idle_timeout_seconds: float = 60.0
    server_tls_enabled: bool = False

    # How many requests a minute
    disable_rate_limiting: bool = False
    ratelimit_user_rpm: PositiveInt = 1000
    ratelimit_public_rpm: PositiveInt = 600
    ratelimit_auth_session_rpm: PositiveInt = 100
    ratelimit_auth_user_rpm: PositiveInt = 100
    ratelimit_auth_ip_rpm: PositiveInt = 3000

    # Every process
    grpc_port: int = 0
    grpc_interface: str = "127.0.0.1"
    metrics_port: int = 0
    grpc_workers: int = 8
    drain_seconds: float = 10.0
    shutdown_delay_seconds: float = 5.0
    log_level: str = "info"

    # Where the services are. Several replicas are separated by commas.
    auth_address: ReplicaList = ["127.0.0.1:50051"]
    threat_model_address: ReplicaList = ["127.0.0.1:50052"]
    collaboration_address: ReplicaList = ["127.0.0.1:50053"]
    health_address: ReplicaList = ["127.0.0.1:50054"]

    # Stores
    database_url: str = ""
    db_max_open_conns: int = 20
    db_lock_timeout_seconds: float = 5.0
    db_statement_timeout_seconds: float = 20.0
    redis_url: str = ""

    # Identity
    oauth_callback_url: str = "http://localhost:8080/oauth2/callback"
    oauth_client_callback_allowlist: CommaList = []
    jwt_signing_method: Literal["ES256", "RS256", "HS256"] = "ES256"
    jwt_secret: str = ""
    jwt_expiration_seconds: int = 3600
    refresh_token_days: int = 7
    session_lifetime_days: int = 7
    cookie_enabled: bool = True
    cookie_domain: str = ""
    cookie_secure: bool = False
    admin_provider: str = ""
    admin_provider_id: str = ""
    admin_email: str = ""

    # Secrets at rest
    secret_settings_encryption_key: str = ""
    secret_settings_encryption_key_file: str = ""
    secret_settings_encryption_previous_key: str = ""
    secret_settings_encryption_previous_key_file: str = ""

    # Behaviour
    require_if_match: bool = False
    host_grace_seconds: float = 15.0
    websocket_inactivity_timeout_seconds: float = 900.0
    operation_log_retention_days: PositiveInt = 90
    tombstone_retention_days: PositiveInt = 30
    audit_retention_days: PositiveInt = 365
    operator_name: str = ""
    operator_contact: str = ""
    build_commit: str = Field(default="", description="Commit shown in the build id.")

    @model_validator(mode="after")
    def _development_defaults(self) -> "Settings":
        if self.build_mode != "production":
            if "shutdown_delay_seconds" not in self.model_fields_set:
                self.shutdown_delay_seconds = 0.0
            self.cors_allowed_origins = self.cors_allowed_origins or list(_DEVELOPMENT_ORIGINS)
            self.oauth_client_callback_allowlist = self.oauth_client_callback_allowlist or [
                origin + path for origin in _DEVELOPMENT_ORIGINS for path in _DEVELOPMENT_CALLBACK_PATHS
            ]
        return self

    @property
    def base_url(self) -> str:
        """The URL under which clients see this system: the public one, else that of the login's callback."""
        if self.public_url:
            return self.public_url.rstrip("/")
        if self.oauth_callback_url.endswith(_CALLBACK_PATH):
            return self.oauth_callback_url.removesuffix(_CALLBACK_PATH)
        parts = urlsplit(self.oauth_callback_url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def allowed_socket_origins(self) -> list[str]:
        """Origins that may open a WebSocket: their own list, else the CORS list."""
        return self.websocket_allowed_origins or self.cors_allowed_origins

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Precedence: arguments (tests), environment, YAML file, defaults."""
        sources: list[PydanticBaseSettingsSource] = [init_settings, env_settings]
        if path := os.environ.get("TMI_CONFIG_FILE"):
            sources.append(YamlConfigSettingsSource(settings_cls, yaml_file=path))
        return tuple(sources)


@cache
def settings() -> Settings:
    """The settings of this process, read once."""
    return Settings()
