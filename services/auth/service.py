"""The auth service put together: its RPCs bound to their handlers."""

from collections.abc import Callable, Sequence
from datetime import datetime

import grpc
import redis
from google.protobuf.descriptor import ServiceDescriptor

from services.auth.account.groups import Groups
from services.auth.account.handlers import Account
from services.auth.account.preferences import Preferences
from services.auth.client_configuration import ClientConfiguration
from services.auth.internal_rpcs import Directory
from services.auth.oauth.authorization_endpoint import AuthorizationEndpoint
from services.auth.oauth.authorization_store import AuthorizationStore
from services.auth.oauth.discovery import Discovery
from services.auth.oauth.introspection import Introspection
from services.auth.oauth.token_endpoint import TokenEndpoint
from services.auth.providers.registry import Providers
from services.auth.schema import CONSTRAINTS
from services.auth.sessions.revocations import Announcer
from services.auth.tokens.access_tokens import AccessTokens
from services.auth.tokens.cookies import Cookies
from services.auth.tokens.login import Logins
from services.auth.tokens.signing_keys import SigningKeys
from services.shared import rfc3339
from services.shared.database import Database, translate_database_error
from services.shared.errors import ApiError, unavailable
from services.shared.rpc import Handler, add_service
from services.shared.settings import Settings
from tmi.auth.v1 import client_configuration_pb2, directory_pb2, me_pb2, oauth_pb2

_LOGIN_RETRY_SECONDS = 30


def add_services(
    server: grpc.Server,
    settings: Settings,
    database: Database,
    client: redis.Redis,
    keys: SigningKeys,
    providers: Providers,
    now: Callable[[], datetime] = rfc3339.now,
) -> Sequence[str]:
    """Binds every service of this process to the server and returns their full names."""
    store = AuthorizationStore(client)
    access_tokens = AccessTokens(settings, keys, now)
    cookies = Cookies(settings)
    logins = Logins(settings, database, access_tokens, Announcer(client), now)
    authorization = AuthorizationEndpoint(settings, providers, store, logins, access_tokens.issuer, now)
    tokens = TokenEndpoint(settings, providers, store, logins, cookies)
    discovery = Discovery(settings, providers, keys)
    introspection = Introspection(logins)
    configuration = ClientConfiguration(settings)
    account = Account(database, logins, cookies)
    preferences = Preferences(database, now)
    groups = Groups(database, providers)
    directory = Directory(database, keys, access_tokens.issuer, now)
    services: dict[ServiceDescriptor, dict[str, Handler]] = {
        oauth_pb2.DESCRIPTOR.services_by_name["OAuth"]: {
            "ListProviders": discovery.list_providers,
            "Authorize": authorization.authorize,
            "Callback": authorization.callback,
            "Token": tokens.token,
            "Refresh": tokens.refresh,
            "Revoke": tokens.revoke,
            "Introspect": introspection.introspect,
            "GetUserInfo": account.get_user_info,
        },
        oauth_pb2.DESCRIPTOR.services_by_name["Discovery"]: {
            "GetJwks": discovery.jwks,
            "GetOpenIdConfiguration": discovery.openid_configuration,
            "GetAuthorizationServerMetadata": discovery.authorization_server,
            "GetProtectedResourceMetadata": discovery.protected_resource,
        },
        me_pb2.DESCRIPTOR.services_by_name["Me"]: {"GetMe": account.get_me, "Logout": account.log_out},
        me_pb2.DESCRIPTOR.services_by_name["Preferences"]: {
            "GetCurrentUserPreferences": preferences.get,
            "CreateCurrentUserPreferences": preferences.create,
            "UpdateCurrentUserPreferences": preferences.update,
        },
        me_pb2.DESCRIPTOR.services_by_name["Groups"]: {
            "ListMyGroups": groups.list_mine,
            "ListMyGroupMembers": groups.list_members,
            "GetProviderGroups": groups.list_of_provider,
        },
        client_configuration_pb2.DESCRIPTOR.services_by_name["ClientConfiguration"]: {
            "GetClientConfig": configuration.get_client_config,
            "ListSamlProviders": configuration.list_saml_providers,
        },
        directory_pb2.DESCRIPTOR.services_by_name["Directory"]: {
            "ListSigningKeys": directory.list_signing_keys,
            "ListRevocations": directory.list_revocations,
            "ResolveSession": directory.resolve_session,
            "ResolvePrincipals": directory.resolve_principals,
        },
    }
    for service, handlers in services.items():
        add_service(server, service, handlers, _translate)
    return [service.full_name for service in services]


def _translate(error: Exception) -> ApiError | None:
    if isinstance(error, redis.RedisError):
        return unavailable("Logging in is not possible at the moment.", _LOGIN_RETRY_SECONDS)
    return translate_database_error(error, CONSTRAINTS)
