"""Training as it is measured: all of torch's combinations take the same steps as jtrace."""

from pathlib import Path

import numpy as np
import pytest

from jtrace.benchmark.cases.train import CASE, COMBINATIONS, CONTEXT, ROWS, STEPS
from jtrace.benchmark.workload import BATCHED, JTRACE, Setting, Workload


def measured(contender: str):
    nowhere = Path("none")
    setting = Setting(nowhere, nowhere, (), None, "float32", rounds=0, limit=None, sample=None, new_tokens=1, prompts=1)
    return CASE.measure(contender, Workload(setting, contender))


@pytest.mark.torch
def test_losses_agree_and_the_fastest_combination_is_told():
    pytest.importorskip("torch")
    ours, theirs = measured(JTRACE), measured(BATCHED)
    assert theirs.arrays["losses"].shape == (len(COMBINATIONS), STEPS)
    assert str(theirs.arrays["fastest"]) in {", ".join(names) for names in COMBINATIONS}
    assert ours.units == theirs.units == STEPS * ROWS * CONTEXT
    (agreement,) = CASE.agree({JTRACE: ours.arrays, BATCHED: theirs.arrays})
    assert agreement.holds, agreement
    # It learns, so that updates are compared and not first weights alone.
    assert ours.arrays["losses"][0, -1] < ours.arrays["losses"][0, 0] - 0.01


def test_one_combination_apart_is_seen():
    ours, theirs = np.full((1, STEPS), 7.0), np.full((len(COMBINATIONS), STEPS), 7.0)
    theirs[2, 3] *= 1 + 2e-4
    (agreement,) = CASE.agree(
        {JTRACE: {"losses": ours}, BATCHED: {"losses": theirs, "fastest": np.array("sdpa, fused")}}
    )
    assert not agreement.holds
    assert "sdpa, fused" in agreement.name
