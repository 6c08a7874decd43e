"""One look at stores that are not ours, so that a wrong URL is said in one line and not by every service."""

import redis
from sqlalchemy import text
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from deploy.embedded.process import StartFailure
from services.shared import redis_connection
from services.shared.database import Database, normalise
from services.shared.startup import CannotStart


def require_database(url: str) -> None:
    """Raises StartFailure when the database of TMI_DATABASE_URL does not answer."""
    try:
        shown = normalise(url).render_as_string(hide_password=True)
        database = Database(url, "tmi", pool_size=1)
        try:
            database.read(lambda connection: connection.execute(text("SELECT 1")))
        finally:
            database.engine.dispose()
    except (ValueError, ArgumentError) as error:
        raise StartFailure(f"TMI_DATABASE_URL cannot be used: {_first_line(error)}") from error
    except (DBAPIError, PoolTimeout) as error:
        reason = _first_line(getattr(error, "orig", None) or error)
        raise StartFailure(
            f"No database answers at {shown} ({reason}): start it, or correct or unset TMI_DATABASE_URL."
        ) from error


def require_redis(url: str) -> None:
    """Raises StartFailure when the server of TMI_REDIS_URL does not answer."""
    try:
        with redis_connection.connect(url) as client:
            client.ping()
    except CannotStart as error:
        raise StartFailure(str(error)) from error
    except redis.RedisError as error:
        raise StartFailure(
            f"No Redis answers at TMI_REDIS_URL ({_first_line(error)}): start it, or correct or unset TMI_REDIS_URL."
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
