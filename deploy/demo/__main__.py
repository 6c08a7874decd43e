"""`make demo`: two people, one diagram, two gateways, a killed replica, and nothing is lost."""

import asyncio
import os
import signal
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from deploy.demo.checker import Verdict, check
from deploy.demo.client import Person, UnexpectedAnswer
from deploy.demo.diagram import Cell, Diagram
from deploy.demo.drawing import draw
from deploy.demo.editor import Editor
from deploy.demo.shop import Shop, create_shop
from deploy.demo.system import NoSystem, collaboration_processes, running_gateways
from deploy.embedded.process import PROJECT, StartFailure
from deploy.embedded.stack import Stack

DRAWING_SECONDS = 10.0
OPERATIONS_PER_SECOND = 12.0
_SETTLE_SECONDS = 30.0


def main() -> int:
    """Tells the story. Exit code 0 only when the checker finds nothing wrong."""
    console = Console(highlight=False)
    try:
        with ExitStack() as resources:
            gateways, directory = _find_or_start(console, resources)
            verdict = asyncio.run(_story(console, gateways, directory))
    except (StartFailure, UnexpectedAnswer, httpx.HTTPError, OSError, TimeoutError) as error:
        Console(stderr=True).print(f"[red]make demo:[/] {error or 'the system did not answer in time'}")
        return 1
    _print_verdict(console, verdict)
    return 0 if verdict.all_clear else 1


def _find_or_start(console: Console, resources: ExitStack) -> tuple[list[str], Path]:
    """A system with two gateways and two replicas: the running one, or one for this demonstration alone."""
    directory = PROJECT / ".tmi"
    try:
        gateways = running_gateways(directory)
        if os.environ.get("TMI_URLS") or (len(gateways) > 1 and len(collaboration_processes(directory)) > 1):
            console.print(f"Using the running system at {', '.join(gateways)}.")
            return gateways, directory
        console.print(
            "The running system has one gateway or one collaboration replica, the story needs two of each "
            "([bold]make run COLLABORATION=2 GATEWAYS=2[/]): starting another system for it."
        )
    except NoSystem:
        console.print("No system runs: starting one for the demonstration.")
    directory = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="tmi-demo-")))
    with console.status("Starting two gateways, two collaboration replicas and everything they need …"):
        stack = resources.enter_context(Stack(directory, gateways=2, collaboration=2, durable=False))
    return stack.gateway_urls, stack.directory


async def _story(console: Console, gateways: list[str], directory: Path) -> Verdict:
    first, second = gateways[0], gateways[-1]
    async with Person("alice", first) as alice, Person("bob", second) as bob:
        await alice.log_in()
        await bob.log_in()
        console.print(f"Logged in [bold]Alice[/] at {first} and [bold]Bob[/] at {second} (PKCE).")
        with console.status("") as status:
            shop = await create_shop(alice, bob, lambda step: status.update(f"Alice is {step} …"))
        console.print(
            f"Alice created the online shop: {shop.cell_count} cells, {shop.threat_count} threats; Bob may write."
        )
        diagram = await alice.request("GET", shop.diagram_path)
        start_vector = diagram["update_vector"]
        async with (
            Editor("alice", await alice.socket_url(shop.threat_model_id, shop.diagram_id)) as at_first,
            Editor("bob", await bob.socket_url(shop.threat_model_id, shop.diagram_id)) as at_second,
            Editor("witness", await bob.socket_url(shop.threat_model_id, shop.diagram_id)) as witness,
        ):
            await _edit_together(console, [at_first, at_second], witness, start_vector, directory)
            await _settle([at_first, at_second, witness], start_vector)
            diagram = await bob.request("GET", shop.diagram_path)
            stored = Diagram(diagram["cells"]).cells()
            for editor in (at_first, at_second, witness):
                with suppress(TimeoutError):  # then the checker says so
                    await editor.wait_until(partial(_shows, editor, stored), timeout=5)
            verdict = check([at_first, at_second], witness, start_vector, diagram["update_vector"], diagram["cells"])
        await _end_session(alice, shop)
    return verdict


def _shows(editor: Editor, cells: list[Cell]) -> bool:
    return editor.log.screen() == cells


async def _edit_together(
    console: Console, editors: list[Editor], witness: Editor, start_vector: int, directory: Path
) -> None:
    """Both draw while the collaboration replicas are killed, one after the other, so that theirs is hit."""
    columns = (SpinnerColumn(), TextColumn("{task.description:28}"), BarColumn(), TextColumn("{task.completed:>4.0f}"))
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        expected = DRAWING_SECONDS * OPERATIONS_PER_SECOND
        bars = {editor: progress.add_task(f"{editor.name.title()} draws", total=expected) for editor in editors}
        drawing = [
            draw(editor, DRAWING_SECONDS, OPERATIONS_PER_SECOND, partial(progress.advance, bar))
            for editor, bar in bars.items()
        ]
        seen = progress.add_task("Seen by everybody", total=expected * len(editors))
        watching = asyncio.create_task(_watch(progress, seen, witness, start_vector))
        killing = asyncio.create_task(_kill_replicas(progress.console, directory))
        await asyncio.gather(*drawing)
        await killing
        watching.cancel()
        sent = sum(len(editor.log.sent) for editor in editors)
        for editor, bar in bars.items():
            progress.update(bar, total=len(editor.log.sent))
        await _wait_quietly(witness, start_vector, sent, 0, time.monotonic() + _SETTLE_SECONDS)
        progress.update(seen, completed=witness.newest_vector - start_vector, total=sent)


async def _watch(progress: Progress, bar: TaskID, witness: Editor, start_vector: int) -> None:
    while True:
        progress.update(bar, completed=witness.newest_vector - start_vector)
        await asyncio.sleep(0.1)


async def _kill_replicas(console: Console, directory: Path) -> None:
    replicas = collaboration_processes(directory)
    for number, pid in replicas.items():
        await asyncio.sleep(DRAWING_SECONDS / (len(replicas) + 1))
        os.kill(pid, signal.SIGKILL)
        console.print(f"[red]✗[/] kill -9 {pid}: collaboration replica {number} is gone. Nobody's socket closes.")
    if not replicas:
        console.print("[yellow]No pid files: the replicas of that system are not ours to kill.[/]")


async def _settle(editors: list[Editor], start_vector: int) -> None:
    """Waits until every socket has what the others sent; what is missing then is for the checker to say."""
    total = sum(len(editor.log.sent) - len(editor.log.refused) for editor in editors)
    deadline = time.monotonic() + _SETTLE_SECONDS
    for editor in editors:
        own = len(editor.log.sent) - len(editor.log.refused)
        await _wait_quietly(editor, start_vector, total, own, deadline)


async def _wait_quietly(editor: Editor, start_vector: int, total: int, own: int, deadline: float) -> None:
    def has_everything() -> bool:
        state = editor.log.states[-1]["update_vector"] - start_vector
        return len(editor.log.events) >= total - own or state >= total or editor.log.close_code is not None

    try:
        await editor.wait_until(has_everything, max(0.1, deadline - time.monotonic()))
    except TimeoutError:
        return


async def _end_session(host: Person, shop: Shop) -> None:
    await host.request("DELETE", f"{shop.diagram_path}/collaborate")


def _print_verdict(console: Console, verdict: Verdict) -> None:
    table = Table(title="Checker", show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for name, number, good in (
        ("operations sent", verdict.sent, True),
        ("accepted", verdict.accepted, verdict.accepted == verdict.sent),
        ("refused", verdict.refused, verdict.refused == 0),
        ("lost", verdict.lost, verdict.lost == 0),
        ("duplicated", verdict.duplicated, verdict.duplicated == 0),
        ("out of order", verdict.out_of_order, verdict.out_of_order == 0),
        ("sockets closed", verdict.sockets_closed, verdict.sockets_closed == 0),
    ):
        table.add_row(name, f"[{'green' if good else 'red'}]{number}[/]")
    for name, good in (
        ("both screens equal", verdict.screens_equal),
        ("equal to what REST answers", verdict.equal_to_rest),
    ):
        table.add_row(name, "[green]yes[/]" if good else "[red]no[/]")
    console.print(table)
    console.print("[green]All clear.[/]" if verdict.all_clear else "[red]Something is wrong.[/]")


if __name__ == "__main__":
    sys.exit(main())
