"""Damaged files of every kind are read or refused in one line; no exception, nothing written, nothing run.

A few of each kind here, drawn anew by JTRACE_FUZZ_SEED; JTRACE_FUZZ_CASES says how many. For many more:

    python -m tests.fuzz.run --cases=1000000 --seed=0
"""

import os
from pathlib import Path

import pytest

from tests.fuzz.case import Place, damaged, run_case, working_in
from tests.fuzz.inputs import Kind, make_kinds

CASES, SEED = int(os.environ.get("JTRACE_FUZZ_CASES", "5")), int(os.environ.get("JTRACE_FUZZ_SEED", "0"))
MANY = 100


@pytest.fixture(scope="module")
def kinds(tmp_path_factory) -> dict[str, Kind]:
    made = make_kinds(tmp_path_factory.mktemp("sound"))
    return {name: kind for name, kind in made.items() if not kind.by_command}


@pytest.fixture
def place(tmp_path) -> Path:
    return Place(tmp_path)


def faults(kinds: dict[str, Kind], place: Place, cases: int) -> list[tuple[str, int, str]]:
    found = []
    with working_in(place.root / "work"):
        for name, kind in kinds.items():
            for number in range(cases):
                outcome = run_case(kind, damaged(kind, name, SEED, number), place)
                if outcome.ended == "fault" or (number == 0 and outcome.ended == "refused"):
                    found.append((name, number, outcome.said))
    return found


def test_a_few_damaged_files_of_every_kind(kinds, place):
    assert faults(kinds, place, CASES) == []


@pytest.mark.fuzz
def test_many_damaged_files_of_every_kind(kinds, place):
    assert faults(kinds, place, MANY) == []
