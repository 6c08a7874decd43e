"""`make run`: the whole system from one command, in the foreground.

Arguments: COLLABORATION=<n> and GATEWAYS=<n>; PROVIDER=oidc starts an OpenID provider beside the system. TMI_
variables of the environment are passed on to every process; TMI_SERVER_PORT is the first gateway's port.
"""

import os
import signal
import sys
import threading
import time

try:
    from deploy.embedded.process import PROJECT, StartFailure
    from deploy.embedded.stack import OPENID_PROVIDER, Stack
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
    terminal.running(
        stack.gateway_urls, str(stack.directory / "log"), time.monotonic() - started, stack.openid_provider
    )
    stop.wait()
    terminal.stopping()
    stack.stop()
    terminal.stopped()
    return 0


def _stack(arguments: list[str], terminal: Terminal) -> Stack:
    provider, arguments = _provider(arguments)
    options = _options(arguments)
    settings = {name: value for name, value in os.environ.items() if name.startswith("TMI_") and value}
    return Stack(
        DIRECTORY,
        gateways=options["GATEWAYS"],
        collaboration=options["COLLABORATION"],
        first_port=_number("TMI_SERVER_PORT", settings.get("TMI_SERVER_PORT", _DEFAULT_PORT), 65535),
        settings=settings,
        openid_provider=bool(provider),
        report=terminal.report,
    )


def _provider(arguments: list[str]) -> tuple[str, list[str]]:
    """The value of PROVIDER, and the other arguments."""
    values = [argument.removeprefix("PROVIDER=") for argument in arguments if argument.startswith("PROVIDER=")]
    provider = values[-1] if values else ""
    if provider not in ("", OPENID_PROVIDER):
        raise StartFailure(f"PROVIDER is {provider!r}: there is {OPENID_PROVIDER}.")
    return provider, [argument for argument in arguments if not argument.startswith("PROVIDER=")]


def _options(arguments: list[str]) -> dict[str, int]:
    options = {"COLLABORATION": 1, "GATEWAYS": 1}
    for argument in arguments:
        name, _, value = argument.partition("=")
        if name not in options:
            raise StartFailure(f"{argument!r} is no option: there are COLLABORATION=, GATEWAYS= and PROVIDER=.")
        options[name] = _number(name, value, _MOST_PROCESSES)
    return options


def _number(name: str, value: str, most: int) -> int:
    if not value.isascii() or not value.isdigit() or not 0 < int(value) <= most:
        raise StartFailure(f"{name} is {value!r}: it must be a number from 1 to {most}.")
    return int(value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
