from services.shared.database import Database
from services.shared.settings import Settings
from tests.auth.client import Clock, serving


def test_a_whole_session_on_each_kind_of_database(database: Database, redis_url: str, clock: Clock) -> None:
    with serving(Settings(build_mode="dev", redis_url=redis_url), database, clock) as service:
        client = service.client
        tokens = client.log_in("alice")
        assert client.profile(tokens.access).json["is_admin"] is True
        refreshed = client.refresh(tokens.refresh).json
        assert client.log_out(refreshed["access_token"]).status == 0
        assert client.refresh(refreshed["refresh_token"]).error == "invalid_grant"
