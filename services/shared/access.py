"""Who may call an operation: what each value of the `access` option asks of the caller.

A role is a number, and a greater one includes the lesser. Which role somebody has on a threat model is known
to the service that keeps it; here is only which one a declaration asks for.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tmi.options.v1.options_pb2 import Access

READER, WRITER, OWNER = 1, 2, 3
ROLE_NAMES = {READER: "reader", WRITER: "writer", OWNER: "owner"}


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a caller has to be. The values combine: each that is set has to hold."""

    authenticated: bool = True
    role: int = 0
    """Least role on the root that the request names, such as a threat model; 0 for none."""
    in_person: bool = False
    """A service account is refused."""
    administrator: bool = False
    automation: bool = False
    """A member of the group tmi-automation."""


_REQUIREMENTS: Mapping["Access.ValueType", Requirement] = {
    Access.ACCESS_PUBLIC: Requirement(authenticated=False),
    Access.ACCESS_AUTHENTICATED: Requirement(),
    Access.ACCESS_READER: Requirement(role=READER),
    Access.ACCESS_READER_INVOKER: Requirement(role=READER, in_person=True),
    Access.ACCESS_WRITER_INVOKER: Requirement(role=WRITER, in_person=True),
    Access.ACCESS_OWNER_INVOKER: Requirement(role=OWNER, in_person=True),
    Access.ACCESS_ADMIN: Requirement(in_person=True, administrator=True),
    Access.ACCESS_AUTOMATION: Requirement(automation=True),
}


def requirement_of(access: "Access.ValueType") -> Requirement:
    """What the value asks for. Raises ValueError for one that nothing enforces, or that says nothing."""
    try:
        return _REQUIREMENTS[access]
    except KeyError:
        name = Access.Name(access) if access in Access.values() else str(access)
        raise ValueError(f"the access {name} is not implemented" if access else "no access is declared") from None
