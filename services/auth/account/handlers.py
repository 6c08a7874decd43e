"""GET /me, POST /me/logout and GET /oauth2/userinfo: the caller's own account."""

import orjson
from sqlalchemy import Connection, select

from services.auth.directory import groups
from services.auth.directory.tables import users
from services.auth.directory.users import User, user_of
from services.auth.sessions.login_sessions import reported_groups
from services.auth.tokens.cookies import Cookies
from services.auth.tokens.login import Logins
from services.shared.database import Database
from services.shared.errors import unauthorized
from services.shared.principal import ADMINISTRATORS_GROUP_ID, SECURITY_REVIEWERS_GROUP_ID, Call
from services.shared.rpc import Reply
from tmi.auth.v1.me_pb2 import GetMeRequest, LogoutRequest
from tmi.auth.v1.oauth_pb2 import GetUserInfoRequest
from tmi.principal.v1.principal_pb2 import Principal


class Account:
    """Handlers about the caller. Roles are those of now, not those of the token."""

    def __init__(self, database: Database, logins: Logins, cookies: Cookies) -> None:
        self._database = database
        self._logins = logins
        self._cookies = cookies

    def get_me(self, _request: GetMeRequest, call: Call) -> Reply:
        """The profile with roles and direct groups. 401 when the account does not exist any more."""
        user, memberships = self._database.read(lambda connection: _profile(connection, call.caller))
        group_ids = {group.id for group in memberships}
        is_person = not call.caller.is_service_account
        body = {
            "principal_type": "user",
            "provider": user.provider,
            "provider_id": user.provider_id,
            "display_name": user.display_name,
            "email": user.email,
            "is_admin": is_person and ADMINISTRATORS_GROUP_ID in group_ids,
            "is_security_reviewer": SECURITY_REVIEWERS_GROUP_ID in group_ids,
            "groups": [
                {"internal_uuid": group.id, "group_name": group.name, "name": group.display_name}
                for group in memberships
            ],
        }
        return Reply(orjson.dumps(body))

    def log_out(self, _request: LogoutRequest, call: Call) -> Reply:
        """204; the session and everything issued in it is over."""
        self._logins.log_out(call.caller)
        return Reply(headers=self._cookies.clear())

    def get_user_info(self, _request: GetUserInfoRequest, call: Call) -> Reply:
        """OpenID Connect Core section 5.3, with the provider and the names of the groups."""
        user, names = self._database.read(lambda connection: _user_info(connection, call.caller))
        body: dict[str, object] = {
            "sub": user.provider_id,
            "email": user.email,
            "name": user.display_name,
            "idp": user.provider,
        }
        if names:
            body["groups"] = names
        return Reply(orjson.dumps(body))


def _profile(connection: Connection, caller: Principal) -> tuple[User, list[groups.Group]]:
    row = connection.execute(select(users).where(users.c.id == caller.user_id)).one_or_none()
    if row is None:
        raise unauthorized("The account does not exist any more.")
    return user_of(row), groups.direct_groups(connection, caller.user_id)


def _user_info(connection: Connection, caller: Principal) -> tuple[User, list[str]]:
    user, memberships = _profile(connection, caller)
    reported = reported_groups(connection, caller.session_id)
    return user, list(dict.fromkeys([*reported, *(group.name for group in memberships)]))
