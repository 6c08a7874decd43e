"""The fixtures of the sequencer's tests."""

from tests.threat_model.sequencer.conftest import (  # noqa: F401
    concurrent_world,
    count_statements,
    database,
    postgresql,
    sqlite,
    world,
)
