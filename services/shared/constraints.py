"""What a violated constraint means to the client: the last guard behind the checks of the handlers."""

import logging
from collections.abc import Mapping

from sqlalchemy import MetaData
from sqlalchemy.exc import DBAPIError

from services.shared.errors import ApiError, conflict, invalid_input
from services.shared.sql_dialect import Rule, violation_of

logger = logging.getLogger(__name__)

_GENERAL = {
    Rule.UNIQUE: "This is in conflict with what is there already.",
    Rule.FOREIGN_KEY: "Something that this refers to does not exist.",
    Rule.VALUE: "A value is missing, too long or out of range.",
}


class Constraints:
    """The constraints of one service's tables, and what to tell the client.

    messages: by constraint name. missing: for a foreign key, by the name of the table that it refers to.
    """

    def __init__(self, metadata: MetaData, messages: Mapping[str, str], missing: Mapping[str, str]) -> None:
        self._metadata = metadata
        self._messages = messages
        self._missing = missing

    def message(self, name: str) -> str | None:
        """What to tell about the constraint, None when nothing is declared."""
        return self._messages.get(name) or self._missing.get(self._referred().get(name, ""))

    def _referred(self) -> dict[str, str]:
        """Table that each foreign key refers to. Tables may join the metadata until the first violation."""
        return {
            str(constraint.name): constraint.referred_table.name
            for table in self._metadata.tables.values()
            for constraint in table.foreign_key_constraints
        }

    def translate(self, error: DBAPIError) -> ApiError | None:
        """409 `conflict` for what must be unique, 400 `invalid_input` for every other rule of the schema.

        None when the database failed for another reason. A constraint without a message of its own should
        have been checked before: it is logged as an error, and the client is told its kind.
        """
        violation = violation_of(error, self._metadata)
        if violation is None:
            return None
        message = self.message(violation.name)
        if message is None:
            extra = {"constraint": violation.name, "rule": violation.rule.value, "sqlstate": _sqlstate(error)}
            logger.error("a constraint that nothing checked was violated", extra=extra)
            message = _GENERAL[violation.rule]
        return conflict(message) if violation.rule is Rule.UNIQUE else invalid_input(message)


def _sqlstate(error: DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or ""
