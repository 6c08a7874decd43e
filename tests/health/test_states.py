import asyncio
import re
from typing import Any

import grpc
import orjson
import pytest
from grpc_health.v1 import health_pb2

from services.health.components import Level
from services.health.prober import Prober
from services.health.store_health import store_health
from services.shared.errors import ApiError, from_rpc_error
from services.shared.principal import PUBLIC_URL_KEY
from tests.health.conftest import System
from tests.tiny_disk import mounted
from tmi.health.v1.health_pb2 import GetApiInfoRequest, GetReadinessRequest

pytestmark = pytest.mark.anyio

_SPECIFICATION = re.compile(r"https?://[a-zA-Z0-9][a-zA-Z0-9.-]*(:[0-9]{1,5})?(/\S*)?")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z")


async def wait_for_level(system: System, level: Level) -> None:
    async with asyncio.timeout(15):
        while system.prober.snapshot.level is not level:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def api_info(system: System) -> dict[str, Any]:
    call = system.stub.GetApiInfo(
        GetApiInfoRequest(accept="application/json"), metadata=((PUBLIC_URL_KEY, "https://tmi.example/api"),)
    )
    answer = await call
    assert answer.content_type == "application/json"
    found: dict[str, Any] = orjson.loads(answer.data)
    return found


async def readiness_error(system: System) -> ApiError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await system.stub.GetReadiness(GetReadinessRequest())
    return from_rpc_error(caught.value)


async def test_ok_when_everything_answers(system: System) -> None:
    await wait_for_level(system, Level.OK)
    info = await api_info(system)
    assert set(info) == {"status", "service", "api", "operator"}
    assert info["status"]["code"] == "ok"
    assert _TIME.fullmatch(info["status"]["time"])
    assert info["service"] == {"name": "TMI", "build": "0.1.0-0123456"}
    assert info["api"] == {"version": "1.8.22", "specification": "https://tmi.example/api/openapi.json"}
    assert info["operator"] == {"name": "Acme & Sons", "contact": "<security@acme.example>"}
    ready = await system.stub.GetReadiness(GetReadinessRequest())
    assert orjson.loads(ready.data) == {"status": "ok", "missing": []}


async def test_the_specification_is_a_url_even_without_a_gateway(system: System) -> None:
    answer = await system.stub.GetApiInfo(GetApiInfoRequest())
    assert _SPECIFICATION.fullmatch(orjson.loads(answer.data)["api"]["specification"])


async def test_losing_redis_degrades_and_recovers(system: System) -> None:
    await wait_for_level(system, Level.OK)
    system.valkey.stop(kill=True)
    await wait_for_level(system, Level.DEGRADED)
    info = await api_info(system)
    assert info["status"]["code"] == "degraded"
    assert info["health"]["redis"]["status"] == "unhealthy"
    assert info["health"]["redis"]["message"] == "unreachable (ConnectionError)"
    assert info["health"]["database"]["status"] == "healthy"
    ready = await system.stub.GetReadiness(GetReadinessRequest())
    assert orjson.loads(ready.data) == {"status": "degraded", "missing": ["redis"]}
    system.valkey.start()
    await wait_for_level(system, Level.OK)


async def test_losing_the_database_is_an_error_and_recovers(system: System) -> None:
    await wait_for_level(system, Level.OK)
    system.postgres.stop(kill=True)
    await wait_for_level(system, Level.ERROR)
    info = await api_info(system)
    assert info["status"]["code"] == "error"
    assert info["health"]["database"]["status"] == "unhealthy"
    error = await readiness_error(system)
    assert (error.status, error.code) == (503, "service_unavailable")
    assert error.headers["Retry-After"] == "5"
    assert "database" in error.message
    system.postgres.start()
    await wait_for_level(system, Level.OK)


async def test_a_full_disk_degrades_and_is_told_until_there_is_room_again(system: System) -> None:
    with mounted() as disk, disk.database(system.postgres) as url:
        settings = system.settings.model_copy(update={"database_url": url})
        async with Prober(settings) as prober:
            assert (await prober.probe()).level is Level.OK
            disk.fill()
            full = await prober.probe()
            assert (full.level, full.missing()) == (Level.DEGRADED, ["room in the database"])
            database = store_health(full)
            assert database is not None
            assert database["database"]["status"] == "unhealthy"
            assert database["database"]["message"] == "the disk is full: nothing can be stored"
            disk.free()
            assert (await prober.probe()).level is Level.OK


@pytest.mark.parametrize("name", ["auth", "threat_model", "collaboration"])
async def test_losing_one_replica_degrades(system: System, name: str) -> None:
    await wait_for_level(system, Level.OK)
    await system.replicas[name][1].server.stop(None)
    await wait_for_level(system, Level.DEGRADED)
    assert system.prober.snapshot.missing() == [name]
    assert "health" in await api_info(system)


@pytest.mark.parametrize("name", ["auth", "threat_model"])
async def test_losing_every_replica_of_a_needed_service_is_an_error(system: System, name: str) -> None:
    await wait_for_level(system, Level.OK)
    for replica in system.replicas[name]:
        await replica.server.stop(None)
    await wait_for_level(system, Level.ERROR)
    assert name in (await readiness_error(system)).message


async def test_without_collaboration_everything_else_is_served(system: System) -> None:
    await wait_for_level(system, Level.OK)
    for replica in system.replicas["collaboration"]:
        await replica.server.stop(None)
    await wait_for_level(system, Level.DEGRADED)
    await system.stub.GetReadiness(GetReadinessRequest())


async def test_a_draining_replica_counts_as_missing(system: System) -> None:
    await wait_for_level(system, Level.OK)
    await system.replicas["auth"][0].servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    await wait_for_level(system, Level.DEGRADED)


async def test_nothing_is_ready_before_the_first_probe(system: System) -> None:
    assert Prober(system.settings).snapshot.level is Level.ERROR


async def test_html_for_browsers_escapes_values_and_has_a_strict_policy(system: System) -> None:
    await wait_for_level(system, Level.OK)
    browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    call = system.stub.GetApiInfo(GetApiInfoRequest(accept=browser))
    answer = await call
    assert answer.content_type == "text/html; charset=utf-8"
    text = answer.data.decode()
    assert "Acme &amp; Sons" in text
    assert "&lt;security@acme.example&gt;" in text
    headers = {str(key): str(value) for key, value in await call.trailing_metadata() or ()}
    policy = headers["x-http-header-content-security-policy"]
    assert "unsafe-inline" not in policy
    assert "default-src 'none'" in policy
    assert headers["x-http-header-vary"] == "Accept"
