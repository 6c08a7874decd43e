"""The identity providers of this process."""

from collections.abc import Callable, Sequence
from datetime import datetime

from services.auth.providers import dev_provider
from services.auth.providers.configuration import ProviderConfiguration
from services.auth.providers.oauth2_provider import OAuth2Provider
from services.auth.providers.openid_provider import OpenIdProvider
from services.auth.providers.provider import Provider
from services.auth.providers.upstream_http import Upstream
from services.shared.errors import ApiError
from services.shared.settings import Settings

_THREADS_FOR_OTHERS = 2
"""Of the service: they never wait for a provider."""


class Providers:
    """The configured providers, and the dev provider in development builds."""

    def __init__(
        self, settings: Settings, configurations: Sequence[ProviderConfiguration], now: Callable[[], datetime]
    ) -> None:
        self.upstream = Upstream(settings.grpc_workers - _THREADS_FOR_OTHERS)
        self._has_dev_provider = dev_provider.exists(settings)
        self._configured: dict[str, Provider] = {}
        for configuration in configurations:
            self._configured[configuration.id] = (
                OpenIdProvider(configuration, self.upstream, settings.oauth_callback_url, now)
                if configuration.issuer
                else OAuth2Provider(configuration, self.upstream, settings.oauth_callback_url)
            )

    def close(self) -> None:
        """Ends the connections to providers."""
        self.upstream.session.close()

    @property
    def configured(self) -> Sequence[ProviderConfiguration]:
        """In the order of their ids, without the dev provider."""
        return [provider.configuration for provider in self._configured.values()]

    def find(self, identifier: str) -> Provider | None:
        """The configured provider with that id."""
        return self._configured.get(identifier)

    def require_known(self, identifier: str) -> str:
        """The id to use for the `idp` a client named. Raises ApiError 400 for an unknown one.

        Without one it is the dev provider, where there is that.
        """
        if identifier in self._configured:
            return identifier
        if identifier in ("", dev_provider.ID) and self._has_dev_provider:
            return dev_provider.ID
        if not identifier:
            raise ApiError(400, "invalid_request", "The parameter idp is missing.")
        raise ApiError(400, "invalid_provider", "There is no such identity provider.")
