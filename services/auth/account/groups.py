"""GET /me/groups, its members, and the groups that a provider is known to have."""

from typing import Any
from uuid import UUID, uuid5

import orjson
from sqlalchemy import Connection

from services.auth.directory import groups, users
from services.auth.directory.groups import Member
from services.auth.providers.registry import Providers
from services.auth.sessions.login_sessions import reported_groups
from services.shared import rfc3339
from services.shared.database import Database
from services.shared.errors import forbidden, not_found
from services.shared.principal import Call, group_ids
from services.shared.rpc import Reply
from tmi.auth.v1.me_pb2 import GetProviderGroupsRequest, ListMyGroupMembersRequest, ListMyGroupsRequest

MOST_OF_MY_GROUPS = 100
MOST_OF_A_PROVIDER = 1000


class Groups:
    """Handlers of the three RPCs."""

    def __init__(self, database: Database, providers: Providers) -> None:
        self._database = database
        self._providers = providers

    def list_mine(self, _request: ListMyGroupsRequest, call: Call) -> Reply:
        """The groups that the caller was added to, by name; `total` counts those beyond the first hundred, too."""
        mine = self._database.read(lambda connection: groups.direct_groups(connection, call.caller.user_id))
        shown = [
            {"internal_uuid": group.id, "group_name": group.name, "name": group.display_name}
            for group in mine[:MOST_OF_MY_GROUPS]
        ]
        return Reply(orjson.dumps({"groups": shown, "total": len(mine)}))

    def list_members(self, request: ListMyGroupMembersRequest, call: Call) -> Reply:
        """A page of the users that were added to a group, in the order of their coming.

        404 when there is no such group, 403 when the caller is not in it. Everybody is in `everyone`, whose
        members nobody counts. Who added whom, and why, is for administrators.
        """

        def work(connection: Connection) -> tuple[list[Member], int]:
            if not groups.exists(connection, request.group_id):
                raise not_found("There is no such group.")
            if request.group_id not in group_ids(call.caller):
                raise forbidden("Only its members may see who is in a group.")
            return groups.members(connection, request.group_id, request.limit, request.offset)

        page, total = self._database.read(work)
        body = {
            "members": [_member(request.group_id, member) for member in page],
            "total": total,
            "limit": request.limit,
            "offset": request.offset,
        }
        return Reply(orjson.dumps(body))

    def list_of_provider(self, request: GetProviderGroupsRequest, call: Call) -> Reply:
        """Groups of a provider by name: those that somebody named here, and those of the caller's own login.

        404 for a provider that is not configured and of which neither a user nor a group is known. Which groups it has
        besides is not known.
        """
        caller, provider = call.caller, request.idp

        def work(connection: Connection) -> dict[str, str]:
            recorded = groups.of_provider(connection, provider, MOST_OF_A_PROVIDER)
            own = reported_groups(connection, caller.session_id) if provider == caller.provider else []
            is_known = recorded or provider == caller.provider or self._providers.find(provider) is not None
            if not is_known and not users.any_of_provider(connection, provider):
                raise not_found("There is no such identity provider.")
            return {name: name for name in own} | {group.name: group.display_name for group in recorded}

        names = sorted(self._database.read(work).items())[:MOST_OF_A_PROVIDER]
        listed = [{"name": name, "display_name": display_name} for name, display_name in names]
        return Reply(orjson.dumps({"idp": provider, "groups": listed}))


def _member(group_id: str, member: Member) -> dict[str, Any]:
    """The contract's GroupMember. A membership has no id of its own: it is made of those of both."""
    return {
        "id": str(uuid5(UUID(group_id), member.id)),
        "group_internal_uuid": group_id,
        "user_internal_uuid": member.id,
        "user_email": member.email or None,
        "user_name": member.display_name,
        "user_provider": member.provider,
        "user_provider_user_id": member.provider_id,
        "subject_type": "user",
        "added_at": rfc3339.to_text(member.added_at),
    }
