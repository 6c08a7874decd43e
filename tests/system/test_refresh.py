"""Refreshing as browsers do it: by cookie, from several tabs, through several gateways."""

import asyncio

import httpx
import psycopg
import pytest

from deploy.demo.client import Person
from deploy.demo.editor import Editor
from deploy.embedded.stack import Stack
from tests.system.conftest import LogIn, model_with_diagram

pytestmark = pytest.mark.anyio

REFRESH_COOKIE = "tmi_refresh_token"


async def refresh(gateway: str, token: str) -> httpx.Response:
    """What a tab sends when the jar holds that refresh token: a tab of its own, so that no jar is between them."""
    async with httpx.AsyncClient(base_url=gateway, trust_env=False, timeout=30) as tab:
        return await tab.post("/oauth2/refresh", json={}, headers={"Cookie": f"{REFRESH_COOKIE}={token}"})


def let_a_minute_pass(stack: Stack, alice: Person) -> None:
    """Moves what the database knows of her refreshes into the past."""
    sessions = "SELECT id FROM auth.login_sessions WHERE user_id IN (SELECT id FROM auth.users WHERE provider_id = %s)"
    with psycopg.connect(stack.database_url) as connection:
        connection.execute(
            f"UPDATE auth.login_sessions SET refreshed_at = refreshed_at - interval '61 s' WHERE id IN ({sessions})",
            [alice.name],
        )
        connection.execute(
            f"UPDATE auth.refresh_tokens SET used_at = used_at - interval '61 s' WHERE session_id IN ({sessions})",
            [alice.name],
        )


async def test_two_tabs_that_refresh_at_once_through_two_gateways_both_stay_logged_in(
    log_in: LogIn, gateways: list[str]
) -> None:
    alice = await log_in("alice", use_cookies=True)
    answers = await asyncio.gather(*(refresh(gateways[number % 2], alice.refresh_token) for number in range(6)))
    assert [answer.status_code for answer in answers] == [200] * 6
    (current,) = {answer.cookies[REFRESH_COOKIE] for answer in answers}
    assert current != alice.refresh_token
    for answer, gateway in zip(answers, gateways * 3, strict=True):
        async with httpx.AsyncClient(base_url=gateway, trust_env=False) as tab:
            profile = await tab.get("/me", headers={"Cookie": f"tmi_access_token={answer.cookies['tmi_access_token']}"})
        assert profile.json()["provider_id"] == alice.name
    assert (await refresh(gateways[1], current)).cookies[REFRESH_COOKIE] == current


async def test_an_answer_that_was_lost_is_given_again_by_the_other_gateway(log_in: LogIn, gateways: list[str]) -> None:
    alice = await log_in("alice", use_cookies=True)
    lost = await refresh(gateways[0], alice.refresh_token)
    repeated = await refresh(gateways[1], alice.refresh_token)
    assert repeated.status_code == 200
    assert repeated.cookies[REFRESH_COOKIE] == lost.cookies[REFRESH_COOKIE]


async def test_a_token_that_was_replaced_a_minute_ago_ends_tokens_and_sockets_of_its_login(
    log_in: LogIn, gateways: list[str], stack: Stack
) -> None:
    alice = await log_in("alice", gateway=1)
    threat_model_id, diagram_id = await model_with_diagram(alice)
    successor = (await refresh(gateways[0], alice.refresh_token)).cookies[REFRESH_COOKIE]
    async with Editor("alice", await alice.socket_url(threat_model_id, diagram_id)) as editor:
        await editor.wait_until(lambda: len(editor.participants) == 1)
        let_a_minute_pass(stack, alice)
        reused = await refresh(gateways[0], alice.refresh_token)
        assert (reused.status_code, reused.json()["error"]) == (400, "invalid_grant")
        await editor.wait_until(lambda: editor.log.close_code is not None)
        assert editor.log.close_code == 4401
    assert (await alice.call("GET", "/me")).status_code == 401
    refused = await refresh(gateways[1], successor)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
