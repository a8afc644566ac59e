"""jtrace's probes and information beside the published statistics, each on the peer's own activations."""

from pathlib import Path

import numpy as np
import pytest

from jtrace.benchmark.cases.information import CASE as INFORMATION
from jtrace.benchmark.cases.information import information_floor
from jtrace.benchmark.cases.probe import CASE as PROBE
from jtrace.benchmark.cases.probe import probe_floor
from jtrace.benchmark.workload import JTRACE, PUBLISHED, Workload
from tests.benchmark.tiny import setting_of


@pytest.mark.torch
def test_probes_agree_with_scikit_learn(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    setting = setting_of(tmp_path)
    found = {contender: PROBE.measure(contender, Workload(setting, contender)) for contender in (JTRACE, PUBLISHED)}
    assert found[JTRACE].units == found[PUBLISHED].units == 4
    assert found[JTRACE].arrays["probe_accuracy"].shape == (1, 4)
    decisions, accuracy, published = PROBE.agree({contender: of.arrays for contender, of in found.items()})
    assert decisions.bar == accuracy.bar == 1e-3
    assert decisions.holds
    assert accuracy.holds
    assert published.value <= 0.2  # scikit-learn stops early: one of ten test rows, or two
    wrong = dict(found[JTRACE].arrays) | {"probe_accuracy": found[JTRACE].arrays["probe_accuracy"] - 0.1}
    assert [of.holds for of in PROBE.agree({JTRACE: wrong})] == [True, False]


def test_probes_decide_as_the_float64_optimum_does(tmp_path: Path) -> None:
    measured = PROBE.measure(JTRACE, Workload(setting_of(tmp_path), JTRACE))
    assert (measured.units, measured.arrays["probe_accuracy"].shape) == (4, (1, 4))
    decisions, accuracy = PROBE.agree({JTRACE: measured.arrays})
    assert decisions.bar == accuracy.bar == 1e-3
    assert decisions.holds
    assert accuracy.holds
    wrong = dict(measured.arrays) | {"unlike": measured.arrays["unlike"] + 0.1}
    assert [of.holds for of in PROBE.agree({JTRACE: wrong})] == [False, True]


def test_information_agrees_with_float64(tmp_path: Path) -> None:
    setting = setting_of(tmp_path)
    ours = INFORMATION.measure(JTRACE, Workload(setting, JTRACE)).arrays
    (exact,) = INFORMATION.agree({JTRACE: ours})
    assert exact.bar == 5e-4
    assert exact.holds
    (exact,) = INFORMATION.agree({JTRACE: dict(ours) | {"beside_exact": ours["exact"] * np.float64(1.001)}})
    assert not exact.holds


@pytest.mark.torch
def test_on_a_sample_two_layers_are_measured(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    setting = setting_of(tmp_path, sample=8)
    ours, theirs = (INFORMATION.measure(name, Workload(setting, name)) for name in (JTRACE, PUBLISHED))
    assert (ours.units, theirs.units) == (4, 2)
    assert theirs.arrays["layers"].tolist() == [0, 3]
    _, xt, yt = INFORMATION.agree({JTRACE: ours.arrays, PUBLISHED: theirs.arrays})
    assert xt.bar is yt.bar is None
    assert xt.value < 0.05 * np.abs(theirs.arrays["mi_xt"]).max()


def test_floors_count_the_fewest_operations() -> None:
    assert information_floor(training=10, width=3).operations == 10 * 10 * 3 + 10**3
    assert probe_floor(training=10, width=3).operations == 10 * 4 * 10 * 3 + 10 * 3 * 3
    assert probe_floor(training=3, width=10).operations == 10 * 4 * 3 * 10 + 3 * 3 * 10
