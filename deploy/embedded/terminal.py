"""What `make run` shows: progress while it starts, then where the system is, then what happens to it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from deploy.embedded.supervisor import Change, Event

_NAMES = {
    "postgres": "PostgreSQL",
    "valkey": "Valkey",
    "auth": "auth",
    "threat-model": "threat-model",
    "worker": "worker",
    "collaboration": "collaboration",
    "health": "health",
    "gateway": "gateway",
    "openid-provider": "OpenID provider",
}


class Terminal:
    """Prints to a terminal with colours and a spinner, or plain lines to a file."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._errors = Console(stderr=True, highlight=False, soft_wrap=True)

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Shows that something is going on until the block ends."""
        with self._console.status("Starting TMI …"):
            yield

    def report(self, event: Event) -> None:
        """One line for an event of the supervisor."""
        name = _readable(event.label)
        match event.change:
            case Change.READY:
                self._console.print(f"  [green]✓[/] {name} [dim]ready after {event.seconds:.1f} s[/]")
            case Change.DIED:
                again = f"starting it again in {event.seconds:.1f} s" if event.seconds else "giving up"
                self._console.print(f"  [red]✗[/] {name} died ({escape(event.reason)}), {again}")
            case Change.BACK:
                self._console.print(f"  [green]✓[/] {name} is back [dim]after {event.seconds:.1f} s[/]")

    def running(self, urls: Sequence[str], logs: str, seconds: float, provider: str = "") -> None:
        """Where the system is and how to log in. provider: id of the OpenID provider beside it, if there is one."""
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        for number, url in enumerate(urls, start=1):
            table.add_row("API" if len(urls) == 1 else f"API, gateway {number}", url)
        table.add_row("Log in", f"provider `tmi`, any name of 3 to 20 letters: {urls[0]}/oauth2/providers")
        table.add_row("", "web clients at http://localhost:4200 and http://localhost:8079 are allowed")
        if provider:
            table.add_row("", f"or provider `{provider}`, a real OpenID login that asks for any name")
        table.add_row("Token", "`make token NAME=alice` prints one for curl")
        table.add_row("Logs", escape(logs))
        table.add_row("Stop", "Ctrl-C")
        self._console.print(
            Panel(table, title=f"TMI runs (development build, started in {seconds:.1f} s)", expand=False)
        )

    def stopping(self) -> None:
        """Says that the end has begun."""
        self._console.print("Stopping TMI …")

    def stopped(self) -> None:
        """Says that nothing runs any more."""
        self._console.print("TMI has stopped. The data stays for the next start.")

    def failure(self, message: str) -> None:
        """One line on stderr."""
        self._errors.print(f"[red]make run:[/] {escape(message)}")


def _readable(label: str) -> str:
    name, _, number = label.rpartition("-")
    shown = _NAMES[name]
    return f"{shown} {number}" if name in ("collaboration", "gateway") else shown
