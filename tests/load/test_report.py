"""What makes `make bench` fail, and the clock it reads."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.load import limits
from tests.load.bench import Row
from tests.load.calibration.units import Units, quiet_units
from tests.load.cpu import cpu_seconds
from tests.load.limits import FLAT_WITHIN, FOREIGN_MODELS, LIMITS, list_name
from tests.load.load_client import Result
from tests.load.report import verdicts

GOOD = {name: Row(name, Result([0.001], 1.0, {}), limit.at_most / 2, 1.0, 0.5) for name, limit in LIMITS.items()}
RELEASE = {name: row.ratio for name, row in GOOD.items()}


def test_good_figures_are_no_problem() -> None:
    assert verdicts(list(GOOD.values()), RELEASE) == []
    assert verdicts(list(GOOD.values()), {}) == []


@pytest.mark.parametrize("name", LIMITS)
def test_a_ratio_above_its_limit_fails_on_any_machine(name: str) -> None:
    row = replace(GOOD[name], cost=LIMITS[name].at_most * 1.01)
    sentences = verdicts([*(GOOD | {name: row}).values()], {})
    assert any(sentence.startswith(f"{name} costs") and "the limit is" in sentence for sentence in sentences)


@pytest.mark.parametrize("name", LIMITS)
def test_a_regression_beyond_the_noise_fails_and_one_within_it_does_not(name: str) -> None:
    def sentences(growth: float) -> list[str]:
        row = replace(GOOD[name], cost=GOOD[name].cost * growth)
        return [text for text in verdicts([*(GOOD | {name: row}).values()], RELEASE) if "last release" in text]

    assert sentences(1 + LIMITS[name].noise * 0.9) == []
    (sentence,) = sentences(1 + LIMITS[name].noise * 1.1)
    assert sentence.startswith(f"{name} costs")


def test_a_list_that_grows_with_what_the_caller_cannot_see_fails() -> None:
    name = list_name(FOREIGN_MODELS[-1])
    row = replace(GOOD[name], stores=GOOD[name].stores + FLAT_WITHIN * GOOD[name].cost)
    assert any("not flat" in sentence for sentence in verdicts([*(GOOD | {name: row}).values()], {}))


def test_a_wrong_answer_fails_whatever_it_costs() -> None:
    row = GOOD[limits.ROOT]
    spoilt = replace(row, result=replace(row.result, problem="unexpected statuses {'500': 3}"))
    assert verdicts([*(GOOD | {limits.ROOT: spoilt}).values()], RELEASE) == ["root: unexpected statuses {'500': 3}."]


def test_saved_figures_are_the_ones_compared_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FIGURES", tmp_path / "release_figures.json")
    assert limits.load_release() == {}
    limits.save_release({"root": 2.3456})
    assert limits.load_release() == {"root": 2.35}


def test_disturbed_calibrations_do_not_count() -> None:
    taken = [Units(0.03, 0.22, 0.07)] * 2 + [Units(0.09, 0.8, 0.2)] * 3
    assert quiet_units(taken) == Units(0.03, 0.22, 0.07)


def test_cpu_of_a_process_includes_that_of_its_children() -> None:
    spin = "import sys, time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\nsys.stdin.read()"
    nested = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {spin!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", nested], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert cpu_seconds({"it": process.pid})["it"] >= 0.3
        process.communicate("")
