"""`make run`: the whole system from one command, in the foreground.

Arguments: COLLABORATION=<n> and GATEWAYS=<n>. TMI_ variables of the environment are passed on to every
process; TMI_SERVER_PORT is the first gateway's port.
"""

import os
import signal
import sys
import threading
import time

try:
    from deploy.embedded.process import PROJECT, StartFailure
    from deploy.embedded.stack import Stack
    from deploy.embedded.terminal import Terminal
except ImportError as error:
    sys.exit(
        f"make run: {error.name} cannot be imported ({error}): run it as `make run`, which installs what is missing."
    )

DIRECTORY = PROJECT / ".tmi"
"""Data, logs and pid files."""

_DEFAULT_PORT = "8080"
_MOST_PROCESSES = 64
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main(arguments: list[str]) -> int:
    """Runs until SIGTERM, SIGINT or SIGHUP. Returns the exit code."""
    terminal = Terminal()
    for number in _ENDING:
        signal.signal(number, signal.default_int_handler)  # each ends a start that is under way
    started = time.monotonic()
    try:
        stack = _stack(arguments, terminal)
        with terminal.starting():
            stack.start()
    except StartFailure as failure:
        terminal.failure(str(failure))
        return 1
    except KeyboardInterrupt:
        terminal.stopped()
        return 0
    stop = threading.Event()
    for number in _ENDING:
        signal.signal(number, lambda *_: stop.set())
    terminal.running(stack.gateway_urls, str(stack.directory / "log"), time.monotonic() - started)
    stop.wait()
    terminal.stopping()
    stack.stop()
    terminal.stopped()
    return 0


def _stack(arguments: list[str], terminal: Terminal) -> Stack:
    options = _options(arguments)
    settings = {name: value for name, value in os.environ.items() if name.startswith("TMI_") and value}
    return Stack(
        DIRECTORY,
        gateways=options["GATEWAYS"],
        collaboration=options["COLLABORATION"],
        first_port=_number("TMI_SERVER_PORT", settings.get("TMI_SERVER_PORT", _DEFAULT_PORT), 65535),
        settings=settings,
        report=terminal.report,
    )


def _options(arguments: list[str]) -> dict[str, int]:
    options = {"COLLABORATION": 1, "GATEWAYS": 1}
    for argument in arguments:
        name, _, value = argument.partition("=")
        if name not in options:
            raise StartFailure(f"{argument!r} is no option: there are COLLABORATION=<number> and GATEWAYS=<number>.")
        options[name] = _number(name, value, _MOST_PROCESSES)
    return options


def _number(name: str, value: str, most: int) -> int:
    if not value.isascii() or not value.isdigit() or not 0 < int(value) <= most:
        raise StartFailure(f"{name} is {value!r}: it must be a number from 1 to {most}.")
    return int(value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
