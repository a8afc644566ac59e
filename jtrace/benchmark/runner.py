"""Runs of sub-benchmarks: every contender in its own process, one after another, then one report."""

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
# `sound` has no peer, and `train` is float32 on a CPU: both are measured only when asked for.
USUAL = tuple(name for name in CASES if name not in ("sound", "train"))
# The process that measures the device's limits, in its own memory.
PACE = "pace"
SETTING, STATUS = "setting.json", Path("/proc/self/status")
HIGH_WATER = re.compile(r"VmHWM:\s*(\d+) kB")
# Characters that the report keeps of a failed contender's last output.
TAIL = 4000


@dataclass(frozen=True)
class Result:
    """Measurements of one contender on one case, as kept in a file.

    Attributes:
        first: seconds of the first call.
        turns: seconds of each later call, for every turn of the contender.
        units: work of one call, in the case's unit.
        device: the device that the contender worked on.
        host_bytes, device_bytes: peaks of the process, earlier cases included; None where the device gives none.
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
        """Seconds of each round, over all turns."""
        return tuple(itertools.chain.from_iterable(self.turns))

    @property
    def seconds(self) -> float:
        """Seconds of the median round."""
        return statistics.median(self.rounds)

    def over(self, other: "Result") -> tuple[float, float, float]:
        """Divides seconds per unit by another's: over all turns, and the least and the most over turns side by side."""
        units = other.units / self.units
        pairs = zip(self.turns, other.turns, strict=False)
        by_turn = [units * statistics.median(mine) / statistics.median(its) for mine, its in pairs]
        return units * self.seconds / other.seconds, min(by_turn), max(by_turn)


# Contender and the folder for its results → its exit status and what it wrote to stderr.
Start = Callable[[str, Path], tuple[int, str]]


def select(names: Sequence[str]) -> tuple[Case, ...]:
    """Returns the named cases in the order of `CASES`; the usual ones without a name.

    Raises:
        InputError: a name is no case.
    """
    for name in names:
        if name not in CASES:
            raise InputError(f"'{name}' is no sub-benchmark; name some of {' '.join(CASES)}")
    chosen = [name for name in CASES if name in (names or USUAL)]
    return tuple(cast(Case, importlib.import_module(f"jtrace.benchmark.cases.{name}").CASE) for name in chosen)


def contend(setting: Setting, contender: str, cases: Sequence[Case], folder: Path) -> None:
    """Measures a contender's cases in order, in its own process, and writes the results to the folder.

    A case that fails leaves its fault there, and later cases go on. Rounds of earlier turns are kept.
    """
    if contender == PACE:
        paces = {dtype: dataclasses.asdict(measure_pace(dtype)) for dtype in {setting.dtype, "float32"}}
        (folder / f"{PACE}.json").write_text(json.dumps(paces))
        return
    workload = Workload(setting, contender)
    for case in (case for case in cases if contender in case.contenders):
        try:
            measured = case.measure(contender, workload)
        except Exception as fault:  # from any library; earlier results are kept
            line = " ".join(str(fault).split()) if isinstance(fault, InputError) else repr(fault)
            _fail(folder, f"{case.name} of {contender}", line[:TAIL], traceback.format_exc())
            continue
        if measured is None:
            continue
        result = _result(case, contender, measured, _read_result(folder, case.name, contender))
        np.savez(folder / f"{case.name}-{contender}.npz", **measured.arrays)  # type: ignore[arg-type]
        (folder / f"{case.name}-{contender}.json").write_text(json.dumps(dataclasses.asdict(result)))
        seconds = statistics.median(measured.rounds)
        summary = f"{seconds:.3g} s for {result.units:,.0f} {case.unit}, the first {measured.first:.3g} s"
        print(f"{case.name:12} {contender:10} {summary}", flush=True)


def run_all(
    setting: Setting,
    cases: Sequence[Case],
    start: Start,
    turns: int = 1,
    keep: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Runs every contender of the cases, one after another, for some turns; returns a report for JSON.

    Failures stand in the report under `failed`; all other results are kept.

    Args:
        turns: turns of every contender; several separate drift of the machine from differences of contenders.
        keep: function that gets the report so far after each contender.
    """
    wanted = {contender for case in cases for contender in case.contenders}
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_setting(setting, folder / SETTING)
        for contender in (PACE, *turns * [contender for contender in CONTENDERS if contender in wanted]):
            status, output = start(contender, folder)
            if status:
                lines = output.strip().splitlines() or [f"it ended with status {status}"]
                _fail(folder, contender, lines[-1].removeprefix("error: "), output)
            report = _report(setting, cases, folder)
            if keep is not None:
                keep(report)
    return report


def check(report: Mapping[str, Any], out: Path) -> None:
    """Checks that every contender ran and every bar holds.

    Raises:
        InputError: a contender failed or a bar does not hold; names the first.
    """
    for name, fault in report["failed"].items():
        raise InputError(f"{name} failed: {fault['line']}; what it wrote last is in {out}")
    for row in report["agreements"]:
        if not row["holds"]:
            raise InputError(
                f"{row['case']}: {row['name']} is {number(row['value'])}, over its bar of {row['bar']:.3g}; see {out}"
            )


def start_process(command: Sequence[str]) -> Start:
    """Returns a function that runs a contender as this command with `--contender` and `--setting`; stdout is shared."""

    def start(contender: str, folder: Path) -> tuple[int, str]:
        environment = os.environ | ({} if contender in (JTRACE, PACE) else {"JAX_PLATFORMS": "cpu"})
        arguments = [*command, f"--contender={contender}", f"--setting={folder / SETTING}"]
        done = subprocess.run(arguments, stderr=subprocess.PIPE, text=True, check=False, env=environment)
        return done.returncode, done.stderr

    return start


def write_setting(setting: Setting, path: Path) -> None:
    """Writes a setting as JSON, for the contenders' processes."""
    path.write_text(json.dumps(dataclasses.asdict(setting), default=str))


def read_setting(path: Path) -> Setting:
    """Reads what `write_setting` wrote."""
    values = json.loads(path.read_text())
    paths = {name: values[name] and Path(values[name]) for name in ("checkpoint", "tokenizer", "data_dir")}
    return Setting(**values | paths | {"statements": tuple(values["statements"])})


def _fail(folder: Path, name: str, line: str, output: str) -> None:
    (folder / f"{name}.fault").write_text(json.dumps({"line": line, "tail": output[-TAIL:]}))
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
    """Returns this process's peak of memory in bytes; getrusage would include that of its parent."""
    if STATUS.is_file() and (match := HIGH_WATER.search(STATUS.read_text())):
        return 1024 * int(match[1])
    # Linux gives kilobytes, macOS bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _device(contender: str) -> tuple[str, int | None]:
    """Returns the contender's device, and the peak of its memory in bytes where known."""
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
        results = [one for contender in CONTENDERS if (one := _read_result(folder, case.name, contender))]
        ours = next((one for one in results if one.contender == JTRACE), None)
        rows += [_row(result, ours, paces, setting.dtype) for result in results]
        if ours is not None:
            arrays: dict[str, dict[str, np.ndarray]] = {}
            for result in results:
                with np.load(folder / f"{case.name}-{result.contender}.npz") as kept:
                    arrays[result.contender] = dict(kept)
            agreements += [_agreement(case, one) for one in case.agree(arrays)]
    return {
        "setting": json.loads(json.dumps(dataclasses.asdict(setting), default=str)),
        "pace": {dtype: dataclasses.asdict(pace) for dtype, pace in paces.items()},
        "results": rows,
        "agreements": agreements,
        "failed": {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.fault"))},
    }


def _agreement(case: Case, agreement: Agreement) -> dict[str, Any]:
    row = dataclasses.asdict(agreement) | {"case": case.name, "holds": bool(agreement.holds)}
    # JSON has neither infinities nor NaN.
    return row | {"value": agreement.value if math.isfinite(agreement.value) else None}


def _read_result(folder: Path, case: str, contender: str) -> Result | None:
    path = folder / f"{case}-{contender}.json"
    if not path.is_file():
        return None
    values = json.loads(path.read_text())
    floor = values["floor"] and Floor(**values["floor"])
    return Result(**values | {"floor": floor, "turns": tuple(map(tuple, values["turns"]))})


def _row(result: Result, ours: Result | None, paces: Mapping[str, Pace], dtype: str) -> dict[str, Any]:
    """Makes a row of a result; `ratio` is the peer's seconds per unit over jtrace's, with its range over turns."""
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
