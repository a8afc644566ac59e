"""Contenders one after another, then one report: medians, ratios, agreements, what failed."""

import dataclasses
import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from jtrace.benchmark.case import Agreement, Floor, Measured
from jtrace.benchmark.report import lines
from jtrace.benchmark.roofline import Pace
from jtrace.benchmark.runner import Start, check, contend, read_setting, run_all, select, write_setting
from jtrace.benchmark.workload import BATCHED, JTRACE, Setting, Workload
from jtrace.errors import InputError

SETTING = Setting(Path("a"), Path("b"), ("stereoset",), None, "float32", 3, 60, None, 32, 32)


@dataclass(frozen=True)
class Halves:
    """jtrace does 10 items in 2 seconds, its peer 5 of them in 3."""

    difference: float = 0.0
    name: str = "halves"
    unit: str = "items"
    contenders: tuple[str, ...] = (JTRACE, BATCHED)

    def measure(self, contender: str, shared: Workload) -> Measured | None:
        if contender == JTRACE:
            return Measured(9.0, (1.0, 2.0, 5.0), 10, Floor(100, 10), {"x": np.ones(2) + self.difference})
        return Measured(9.0, (3.0,), 5, arrays={"x": np.ones(2)})

    def agree(self, found: Mapping[str, Mapping[str, np.ndarray]]) -> list[Agreement]:
        if BATCHED not in found:
            return []
        return [Agreement("x", float(np.abs(found[JTRACE]["x"] - found[BATCHED]["x"]).max()), 0.1)]


@pytest.fixture(autouse=True)
def paced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device of 100 operations and 20 bytes per second."""
    running = importlib.import_module("jtrace.benchmark.runner")
    monkeypatch.setattr(running, "measure_pace", lambda dtype: Pace("a device", 100.0, 20.0))
    monkeypatch.setattr(running, "_device", lambda contender: ("a device", None))


def here(case: Halves) -> Start:
    def start(contender: str, folder: Path) -> tuple[int, str]:
        contend(read_setting(folder / "setting.json"), contender, (case,), folder)
        return 0, ""

    return start


def test_ratios_are_of_seconds_per_unit(capsys: pytest.CaptureFixture[str]) -> None:
    case = Halves()
    report = run_all(SETTING, (case,), here(case))
    ours, theirs = report["results"]
    assert (ours["seconds"], ours["least"], ours["most"], ours["units_per_second"]) == (2.0, 1.0, 5.0, 5.0)
    assert (ours["ratio"], theirs["ratio"]) == (1.0, pytest.approx(3.0))
    assert ours["standing"]["share"] == 0.5
    assert "standing" not in theirs
    check(report, Path("out.json"))
    progress = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in progress] == [["halves", "jtrace"], ["halves", "batched"]]
    table = list(lines(report))
    assert table[1].split()[:5] == ["halves", "jtrace", "2", "(1–5)", "5"]
    assert "50%" in table[1]
    assert table[-1].startswith("device a device")


def test_a_bar_that_does_not_hold_is_an_error() -> None:
    case = Halves(difference=0.5)
    report = run_all(SETTING, (case,), here(case))
    assert any("NOT HELD" in line for line in lines(report))
    with pytest.raises(InputError, match=r"halves: x is 0.5, over its bar of 0.1; see out.json"):
        check(report, Path("out.json"))


def test_a_contender_that_fails_is_one_line_and_the_others_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    class Alone(Halves):
        def agree(self, found: Mapping[str, Mapping[str, np.ndarray]]) -> list[Agreement]:
            return []

    case = Alone()

    def start(contender: str, folder: Path) -> tuple[int, str]:
        return (1, "Traceback\nMemoryError: too large\n") if contender == BATCHED else here(case)(contender, folder)

    report = run_all(SETTING, (case,), start)
    assert [row["contender"] for row in report["results"]] == [JTRACE]
    with pytest.raises(InputError, match=r"batched failed: MemoryError: too large"):
        check(report, Path("out.json"))
    assert "batched failed: MemoryError: too large" in capsys.readouterr().out


def test_a_case_that_fails_does_not_keep_the_next_one_from_its_turn() -> None:
    class Fails(Halves):
        name = "fails"

        def measure(self, contender: str, shared: Workload) -> Measured | None:
            if contender == BATCHED:
                raise RuntimeError("out of memory")
            return super().measure(contender, shared)

        def agree(self, found: Mapping[str, Mapping[str, np.ndarray]]) -> list[Agreement]:
            return [Agreement("y", float("inf"), 0.1)]

    cases = (Fails(name="fails"), Halves())
    kept: list[dict] = []

    def start(contender: str, folder: Path) -> tuple[int, str]:
        contend(read_setting(folder / "setting.json"), contender, cases, folder)
        return 0, ""

    report = run_all(SETTING, cases, start, keep=kept.append)
    done = [(row["case"], row["contender"]) for row in report["results"]]
    assert done == [("fails", JTRACE), ("halves", JTRACE), ("halves", BATCHED)]
    assert report["failed"]["fails of batched"]["line"] == "RuntimeError('out of memory')"
    assert "Traceback" in report["failed"]["fails of batched"]["tail"]
    # The report is there after the pace and after each contender; it is JSON, which has no infinity.
    assert [len(so_far["results"]) for so_far in kept] == [0, 2, 3]
    assert json.dumps(report, allow_nan=False)
    assert not report["agreements"][0]["holds"]


def test_turns_tell_drift_from_difference() -> None:
    """The machine is half as fast in the second turn, for both."""
    order: list[str] = []

    class Drifts(Halves):
        def measure(self, contender: str, shared: Workload) -> Measured | None:
            order.append(contender)
            pace = order.count(contender)
            seconds, units = (1.0 * pace, 10) if contender == JTRACE else (2.0 * pace, 5)
            return Measured(9.0 * pace, (seconds, seconds), units, arrays={"x": np.ones(2)})

    report = run_all(SETTING, (Drifts(),), here(Drifts()), turns=2)
    assert order == [JTRACE, BATCHED] * 2
    ours, theirs = report["results"]
    assert (ours["rounds"], ours["first"], ours["seconds"]) == ((1.0, 1.0, 2.0, 2.0), 9.0, 1.5)
    assert [theirs[name] for name in ("ratio", "least_ratio", "most_ratio")] == [pytest.approx(4.0)] * 3
    assert "4.00 (4.00–4.00)" in list(lines(report))[2]


def test_a_contender_that_a_setting_leaves_out_has_no_row() -> None:
    class Ours(Halves):
        def measure(self, contender: str, shared: Workload) -> Measured | None:
            return super().measure(contender, shared) if contender == JTRACE else None

        def agree(self, found: Mapping[str, Mapping[str, np.ndarray]]) -> list[Agreement]:
            assert set(found) == {JTRACE}
            return []

    assert [row["contender"] for row in run_all(SETTING, (Ours(),), here(Ours()))["results"]] == [JTRACE]


def test_settings_reach_the_contenders(tmp_path: Path) -> None:
    for setting in (SETTING, dataclasses.replace(SETTING, data_dir=Path("c"), sample=3)):
        write_setting(setting, tmp_path / "setting.json")
        assert read_setting(tmp_path / "setting.json") == setting


def test_cases_are_selected_by_name() -> None:
    assert [case.name for case in select(["probe", "extract"])] == ["extract", "probe"]
    with pytest.raises(InputError, match="'prob' is no sub-benchmark; name some of extract attention probe"):
        select(["prob"])
