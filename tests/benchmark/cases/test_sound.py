"""Tests of the sub-benchmark `sound`."""

import numpy as np

from jtrace.benchmark.cases.sound import BAR, CASE
from jtrace.benchmark.workload import JTRACE
from jtrace.sweep.baselines import INITIALISATIONS


def test_baselines_count_among_what_sound_costs_beside_paper():
    assert INITIALISATIONS == 3
    seconds = {"paper": 2.0, "sound": 6.0, "text only": 1.0, "random params": 5.0}
    alone, whole = CASE.agree({JTRACE: {name: np.array(value) for name, value in seconds.items()}})
    assert (alone.value, whole.value) == (3.0, (6.0 + 1.0 + 3 * 5.0) / 2.0)
    assert whole.bar == BAR
    slow = CASE.agree({JTRACE: {name: np.array(value) for name, value in (seconds | {"random params": 30.0}).items()}})
    assert [agreement.holds for agreement in slow] == [True, False]
