"""Runs the sub-benchmarks: every contender in a process of its own, one after another, then the report of them all."""

import dataclasses
import importlib
import itertools
import json
import math
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np

from jtrace.benchmark.case import Agreement, Case, Floor, Measured
from jtrace.benchmark.report import number
from jtrace.benchmark.roofline import Pace, measure_pace, stand
from jtrace.benchmark.workload import CONTENDERS, JTRACE, Setting, Workload
from jtrace.errors import InputError

CASES = ("extract", "attention", "probe", "information", "load", "generate", "score", "sweep", "sound", "train")
# Measured when asked for: protocol `sound` has no peer, and training is float32 and a CPU's.
USUAL = tuple(name for name in CASES if name not in ("sound", "train"))
# The process that measures what the device could do at most, in memory of its own.
PACE = "pace"
SETTING, STATUS = "setting.json", Path("/proc/self/status")
HIGH_WATER = re.compile(r"VmHWM:\s*(\d+) kB")
# Of what a contender that failed wrote last, kept in the report.
TAIL = 4000


@dataclass(frozen=True)
class Result:
    """What one contender took for one case, as kept in a file.

    Attributes:
        first: seconds of the first call.
        turns: seconds of each later call, in every turn of the contender's.
        units: done by one call.
        device: that the contender worked on.
        host_bytes, device_bytes: the process's peaks, cases before this one included; None where the device tells none.
    """

    case: str
    unit: str
    contender: str
    first: float
    turns: tuple[tuple[float, ...], ...]
    units: float
    floor: Floor | None
    device: str
    host_bytes: int
    device_bytes: int | None

    @property
    def rounds(self) -> tuple[float, ...]:
        """Of all turns."""
        return tuple(itertools.chain.from_iterable(self.turns))

    @property
    def seconds(self) -> float:
        """The median round's."""
        return statistics.median(self.rounds)

    def over(self, other: "Result") -> tuple[float, float, float]:
        """Seconds per unit over another's: of all turns, and the least and the most of turns taken side by side."""
        units = other.units / self.units
        pairs = zip(self.turns, other.turns, strict=False)
        by_turn = [units * statistics.median(mine) / statistics.median(its) for mine, its in pairs]
        return units * self.seconds / other.seconds, min(by_turn), max(by_turn)


# Contender and the folder for its results → its exit status and what it wrote to stderr.
Start = Callable[[str, Path], tuple[int, str]]


def select(names: Sequence[str]) -> tuple[Case, ...]:
    """The cases of these names in the order of `CASES`; the usual ones if there is no name.

    Raises:
        InputError: a name that is no case's.
    """
    for name in names:
        if name not in CASES:
            raise InputError(f"'{name}' is no sub-benchmark; name some of {' '.join(CASES)}")
    chosen = [name for name in CASES if name in (names or USUAL)]
    return tuple(cast(Case, importlib.import_module(f"jtrace.benchmark.cases.{name}").CASE) for name in chosen)


def contend(setting: Setting, contender: str, cases: Sequence[Case], folder: Path) -> None:
    """In a contender's own process: measure its cases in order, and leave what was found in the folder.

    A case that fails leaves its fault there, and those after it go on. An earlier turn's rounds are kept.
    """
    if contender == PACE:
        paces = {dtype: dataclasses.asdict(measure_pace(dtype)) for dtype in {setting.dtype, "float32"}}
        (folder / f"{PACE}.json").write_text(json.dumps(paces))
        return
    workload = Workload(setting, contender)
    for case in (case for case in cases if contender in case.contenders):
        try:
            measured = case.measure(contender, workload)
        except Exception as fault:  # of any library, and what was measured before has been kept
            line = " ".join(str(fault).split()) if isinstance(fault, InputError) else repr(fault)
            _fail(folder, f"{case.name} of {contender}", line[:TAIL], traceback.format_exc())
            continue
        if measured is None:
            continue
        result = _result(case, contender, measured, _read_result(folder, case.name, contender))
        np.savez(folder / f"{case.name}-{contender}.npz", **measured.arrays)  # type: ignore[arg-type]
        (folder / f"{case.name}-{contender}.json").write_text(json.dumps(dataclasses.asdict(result)))
        seconds = statistics.median(measured.rounds)
        told = f"{seconds:.3g} s for {result.units:,.0f} {case.unit}, the first {measured.first:.3g} s"
        print(f"{case.name:12} {contender:10} {told}", flush=True)


def run_all(
    setting: Setting,
    cases: Sequence[Case],
    start: Start,
    turns: int = 1,
    keep: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Let every contender that some case has run, one after another, so many times; the report, ready for JSON.

    What fails stands in the report under `failed`, and what was done before or after is kept.

    Args:
        turns: of every contender: more of them tell the machine's drift from the contenders' difference.
        keep: is given the report so far after each contender.
    """
    wanted = {contender for case in cases for contender in case.contenders}
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_setting(setting, folder / SETTING)
        for contender in (PACE, *turns * [contender for contender in CONTENDERS if contender in wanted]):
            status, told = start(contender, folder)
            if status:
                lines = told.strip().splitlines() or [f"it ended with status {status}"]
                _fail(folder, contender, lines[-1].removeprefix("error: "), told)
            report = _report(setting, cases, folder)
            if keep is not None:
                keep(report)
    return report


def check(report: Mapping[str, Any], out: Path) -> None:
    """That every contender ran and every bar holds.

    Raises:
        InputError: else; the first that did not.
    """
    for name, fault in report["failed"].items():
        raise InputError(f"{name} failed: {fault['line']}; what it wrote last is in {out}")
    for row in report["agreements"]:
        if not row["holds"]:
            raise InputError(
                f"{row['case']}: {row['name']} is {number(row['value'])}, over its bar of {row['bar']:.0e}; see {out}"
            )


def start_process(command: Sequence[str]) -> Start:
    """Contenders as processes of this command, with `--contender` and `--setting` added; stdout is this process's."""

    def start(contender: str, folder: Path) -> tuple[int, str]:
        environment = os.environ | ({} if contender in (JTRACE, PACE) else {"JAX_PLATFORMS": "cpu"})
        arguments = [*command, f"--contender={contender}", f"--setting={folder / SETTING}"]
        done = subprocess.run(arguments, stderr=subprocess.PIPE, text=True, check=False, env=environment)
        return done.returncode, done.stderr

    return start


def write_setting(setting: Setting, path: Path) -> None:
    """As JSON, for the contenders' processes."""
    path.write_text(json.dumps(dataclasses.asdict(setting), default=str))


def read_setting(path: Path) -> Setting:
    """What `write_setting` wrote."""
    values = json.loads(path.read_text())
    paths = {name: values[name] and Path(values[name]) for name in ("checkpoint", "tokenizer", "data_dir")}
    return Setting(**values | paths | {"statements": tuple(values["statements"])})


def _fail(folder: Path, name: str, line: str, told: str) -> None:
    (folder / f"{name}.fault").write_text(json.dumps({"line": line, "tail": told[-TAIL:]}))
    print(f"{name} failed: {line}", flush=True)


def _result(case: Case, contender: str, measured: Measured, before: Result | None) -> Result:
    device, peak = _device(contender)
    return Result(
        case=case.name,
        unit=case.unit,
        contender=contender,
        first=before.first if before else measured.first,
        turns=(*(before.turns if before else ()), measured.rounds),
        units=measured.units,
        floor=measured.floor,
        device=device,
        host_bytes=_host_peak(),
        device_bytes=peak,
    )


def _host_peak() -> int:
    """This process's own peak of memory in bytes: getrusage would tell that of the process it was started from."""
    if STATUS.is_file() and (match := HIGH_WATER.search(STATUS.read_text())):
        return 1024 * int(match[1])
    # Linux tells kilobytes, macOS bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _device(contender: str) -> tuple[str, int | None]:
    """What the contender works on, and the peak of its memory in bytes, if it tells."""
    if contender == JTRACE:
        device = jax.devices()[0]
        return device.device_kind, (device.memory_stats() or {}).get("peak_bytes_in_use")
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name(), torch.cuda.max_memory_allocated()
    return "cpu", None


def _report(setting: Setting, cases: Sequence[Case], folder: Path) -> dict[str, Any]:
    paces: dict[str, Pace] = {}
    if (path := folder / f"{PACE}.json").is_file():
        paces = {dtype: Pace(**pace) for dtype, pace in json.loads(path.read_text()).items()}
    rows, agreements = [], []
    for case in cases:
        results = [of for contender in CONTENDERS if (of := _read_result(folder, case.name, contender))]
        ours = next((of for of in results if of.contender == JTRACE), None)
        rows += [_row(result, ours, paces, setting.dtype) for result in results]
        if ours is not None:
            found = {}
            for result in results:
                with np.load(folder / f"{case.name}-{result.contender}.npz") as arrays:
                    found[result.contender] = dict(arrays)
            agreements += [_agreement(case, of) for of in case.agree(found)]
    return {
        "setting": json.loads(json.dumps(dataclasses.asdict(setting), default=str)),
        "pace": {dtype: dataclasses.asdict(pace) for dtype, pace in paces.items()},
        "results": rows,
        "agreements": agreements,
        "failed": {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.fault"))},
    }


def _agreement(case: Case, of: Agreement) -> dict[str, Any]:
    row = dataclasses.asdict(of) | {"case": case.name, "holds": bool(of.holds)}
    # JSON has neither infinities nor NaN.
    return row | {"value": of.value if math.isfinite(of.value) else None}


def _read_result(folder: Path, case: str, contender: str) -> Result | None:
    path = folder / f"{case}-{contender}.json"
    if not path.is_file():
        return None
    values = json.loads(path.read_text())
    floor = values["floor"] and Floor(**values["floor"])
    return Result(**values | {"floor": floor, "turns": tuple(map(tuple, values["turns"]))})


def _row(result: Result, ours: Result | None, paces: Mapping[str, Pace], dtype: str) -> dict[str, Any]:
    """A result with its summaries; `ratio` is the peer's seconds per unit over jtrace's, with its range over turns."""
    row = dataclasses.asdict(result) | {
        "rounds": result.rounds,
        "seconds": result.seconds,
        "least": min(result.rounds),
        "most": max(result.rounds),
        "units_per_second": result.units / result.seconds,
    }
    if ours is not None:
        row |= dict(zip(("ratio", "least_ratio", "most_ratio"), result.over(ours), strict=True))
    if result.floor and (pace := paces.get(result.floor.dtype or dtype)):
        row["standing"] = dataclasses.asdict(stand(result.floor, result.seconds, pace))
    return row
