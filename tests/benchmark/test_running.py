"""Contenders one after another, then one report: medians, ratios, agreements, what failed."""

import dataclasses
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from jtrace.benchmark.case import Agreement, Floor, Measured
from jtrace.benchmark.roofline import Pace
from jtrace.benchmark.running import Start, check, contend, read_setting, run_all, select, write_setting
from jtrace.benchmark.shared import BATCHED, JTRACE, Setting, Shared
from jtrace.benchmark.table import lines
from jtrace.errors import InputError

SETTING = Setting(Path("a"), Path("b"), ("stereoset",), None, "float32", 3, 60, None, 32, 32)


@dataclass(frozen=True)
class Halves:
    """jtrace does 10 items in 2 seconds, its peer 5 of them in 3."""

    difference: float = 0.0
    name: str = "halves"
    unit: str = "items"
    contenders: tuple[str, ...] = (JTRACE, BATCHED)

    def measure(self, contender: str, shared: Shared) -> Measured | None:
        if contender == JTRACE:
            return Measured(9.0, (1.0, 2.0, 5.0), 10, Floor(100, 10), {"x": np.ones(2) + self.difference})
        return Measured(9.0, (3.0,), 5, arrays={"x": np.ones(2)})

    def agree(self, found: Mapping[str, Mapping[str, np.ndarray]]) -> list[Agreement]:
        return [Agreement("x", float(np.abs(found[JTRACE]["x"] - found[BATCHED]["x"]).max()), 0.1)]


@pytest.fixture(autouse=True)
def paced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device of 100 operations and 20 bytes per second."""
    running = importlib.import_module("jtrace.benchmark.running")
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
    with pytest.raises(InputError, match=r"halves: x is 5.00e-01, over its bar of 1e-01; see out.json"):
        check(report, Path("out.json"))


def test_a_contender_that_fails_is_one_line_and_the_others_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    class Alone(Halves):
        def agree(self, found: Mapping[str, Mapping[str, np.ndarray]]) -> list[Agreement]:
            return []

    case = Alone()

    def start(contender: str, folder: Path) -> tuple[int, str]:
        return here(case)(contender, folder) if contender == JTRACE else (1, "Traceback\nMemoryError: too large\n")

    report = run_all(SETTING, (case,), start)
    assert [row["contender"] for row in report["results"]] == [JTRACE]
    with pytest.raises(InputError, match=r"'batched' failed: MemoryError: too large"):
        check(report, Path("out.json"))
    assert "batched failed: MemoryError: too large" in capsys.readouterr().out


def test_a_contender_that_a_setting_leaves_out_has_no_row() -> None:
    class Ours(Halves):
        def measure(self, contender: str, shared: Shared) -> Measured | None:
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
    with pytest.raises(InputError, match="'prob' is no sub-benchmark; name some of extract probe"):
        select(["prob"])
