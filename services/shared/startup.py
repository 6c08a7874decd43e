"""Starting a process: settings, log, and failures that a person can act on."""

import sys
from collections.abc import Callable

from pydantic import ValidationError
from pydantic_settings import SettingsError

from services.shared import log
from services.shared.settings import Settings
from services.shared.settings import settings as read_settings


class CannotStart(Exception):
    """The process cannot start. The message is one line that says why and what to do."""


def run(name: str, work: Callable[[Settings], None]) -> int:
    """Reads the settings, sends the log to stderr as `name`, does the work; returns the exit code.

    A failure to start is one line on stderr and exit code 1.
    """
    try:
        settings = read_settings()
        log.configure(name, settings.log_level)
        work(settings)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        setting = "TMI_" + "_".join(map(str, problem["loc"])).upper()
        return _fail(name, f"the setting {setting} is wrong: {problem['msg']}. Correct it and start again.")
    except (CannotStart, SettingsError) as error:
        return _fail(name, str(error))
    except KeyboardInterrupt:
        return 130
    return 0


def _fail(name: str, message: str) -> int:
    sys.stderr.write(f"{name}: {' '.join(message.split())}\n")
    return 1
