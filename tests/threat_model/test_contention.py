"""A row that somebody holds: writers of it wait and are told so, everybody else is served."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from sqlalchemy import text

from services.shared.database import Database
from services.shared.errors import ApiError
from services.threat_model.schema import SCHEMA
from tests.threat_model.api import Api, serving

NAME = [{"op": "replace", "path": "/name", "value": "mine"}]


@contextmanager
def limited(api: Api, **limits: Any) -> Iterator[Api]:
    """The same data behind a service with other limits; its caller has been seen."""
    url = api.database.engine.url.render_as_string(hide_password=False)
    database = Database(url, SCHEMA, **limits)
    with serving(database, api.directory) as channel:
        limited_api = Api(channel, database, api.directory, api.caller)
        limited_api.ListThreatModels()
        yield limited_api
    database.engine.dispose()


@contextmanager
def held(api: Api, threat_id: str) -> Iterator[Callable[[int], None]]:
    """Holds a threat's row. Yields a function that returns when so many transactions wait for it."""
    with api.database.engine.connect() as holder:
        holder.execute(text("SELECT 1 FROM threat_model.threats WHERE id = :id FOR UPDATE"), {"id": threat_id})
        query = text(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )

        def wait_for(waiting: int) -> None:
            while api.database.read(lambda connection: connection.execute(query).scalar_one()) < waiting:
                time.sleep(0.02)

        yield wait_for
        holder.rollback()


def outcome(work: Future[Any]) -> Any:
    try:
        return work.result(60)
    except ApiError as error:
        return error


def test_while_writers_of_one_row_wait_everybody_else_reads(api: Api) -> None:
    mine, other = api.new_threat_model()["id"], api.new_threat_model()["id"]
    threat = api.threat(mine)["id"]
    with (
        limited(api, writers=6, lock_timeout_seconds=60, statement_timeout_seconds=60) as service,
        ThreadPoolExecutor(24) as clients,
    ):
        with held(api, threat) as wait_for:
            patch = partial(service.PatchThreat, NAME, threat_model_id=mine, threat_id=threat)
            writers = [clients.submit(patch) for _ in range(24)]
            wait_for(6)
            assert service.GetThreatModel(threat_model_id=other).status == 200
            assert service.GetThreat(threat_model_id=mine, threat_id=threat).body["name"] == "Threat"
        outcomes = [outcome(writer) for writer in writers]
    refused = [error for error in outcomes if isinstance(error, ApiError)]
    assert {(error.status, error.code, error.headers["Retry-After"]) for error in refused} == {
        (503, "service_unavailable", "1")
    }
    assert api.GetThreat(threat_model_id=mine, threat_id=threat).version == 1 + len(outcomes) - len(refused)
    assert len(outcomes) - len(refused) >= 6


def test_a_writer_who_waits_too_long_is_told_why(api: Api) -> None:
    tm = api.new_threat_model()["id"]
    threat = api.threat(tm)["id"]
    with limited(api, lock_timeout_seconds=0.1) as service:
        with held(api, threat):
            for rpc, body in (("PatchThreat", NAME), ("ReplaceThreat", {"name": "x"}), ("DeleteThreat", None)):
                error = service.refusal(rpc, body, threat_model_id=tm, threat_id=threat)
                assert (error.status, error.code, error.headers["Retry-After"]) == (503, "service_unavailable", "1")
                assert "being changed by somebody else" in error.message
        assert service.PatchThreat(NAME, threat_model_id=tm, threat_id=threat).version == 2


def test_a_change_whose_caller_has_gone_is_not_made(api: Api) -> None:
    tm = api.new_threat_model()["id"]
    threat = api.threat(tm)["id"]
    scope = {"threat_model_id": tm, "threat_id": threat}
    with ThreadPoolExecutor(1) as clients:
        with held(api, threat) as wait_for:
            gone = clients.submit(api.with_timeout(0.5).PatchThreat, NAME, **scope)
            wait_for(1)
            with pytest.raises(ApiError):
                gone.result(60)
        # Stands in the queue for the row behind the one whose caller has gone.
        assert api.PatchThreat([{"op": "replace", "path": "/name", "value": "after"}], **scope).version == 2
    assert api.GetThreat(**scope).body["name"] == "after"
