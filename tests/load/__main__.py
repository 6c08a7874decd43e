"""`make bench`: measures a private system and prints the table. Exit code 1 when it costs more than it may.

`save` as an argument makes the ratios those of the last release instead of comparing with them.
"""

import sys
import tempfile
from pathlib import Path

from rich.console import Console

from deploy.embedded.process import StartFailure
from deploy.embedded.stack import Stack
from tests.load.bench import Bench
from tests.load.calibration.units import Calibration
from tests.load.limits import load_release, save_release
from tests.load.load_client import LoadClient
from tests.load.report import print_report, verdicts

# One person sends what thousands do: the limit is paid for like any other, and far away.
_SETTINGS = {"TMI_RATELIMIT_USER_RPM": "1000000000"}


def main(*, save: bool) -> int:
    """Runs every measurement and returns the exit code."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    rows = []
    try:
        with (
            tempfile.TemporaryDirectory(prefix="tmi-bench-") as directory,
            console.status("Starting a system of its own …") as status,
            Stack(Path(directory), settings=_SETTINGS) as stack,
            LoadClient() as client,
            Calibration(client, stack.database_url) as calibration,
        ):
            for row in Bench(stack, client, calibration).run():
                rows.append(row)
                status.update(f"{row.name}: {row.ratio:.2f} times its bare parts …")
    except StartFailure as failure:
        Console(stderr=True).print(f"[red]make bench:[/] {failure}")
        return 1
    release = {} if save else load_release()
    print_report(console, rows, calibration.taken, release)
    problems = verdicts(rows, release)
    for sentence in problems:
        console.print(f"[red]{sentence}[/]")
    if save and not problems:
        save_release({row.name: row.ratio for row in rows})
        console.print("Saved as the figures of the last release.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(save=sys.argv[1:] == ["save"]))
