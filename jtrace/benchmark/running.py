"""Runs the sub-benchmarks: every contender in a process of its own, one after another, then the report of them all."""

import dataclasses
import importlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np

from jtrace.benchmark.case import Case, Floor, Measured
from jtrace.benchmark.roofline import Pace, measure_pace, stand
from jtrace.benchmark.shared import CONTENDERS, JTRACE, Setting, Shared
from jtrace.errors import InputError

CASES = ("extract", "probe", "information", "load", "generate", "score", "sweep", "sound", "train")
# Measured when asked for: protocol `sound` has no peer, and training is float32 and a CPU's.
USUAL = tuple(name for name in CASES if name not in ("sound", "train"))
PACE, SETTING = "pace.json", "setting.json"
# Of what a contender that failed wrote last, kept in the report.
TAIL = 4000


@dataclass(frozen=True)
class Result:
    """What one contender took for one case, as kept in a file.

    Attributes:
        first: seconds of the first call.
        rounds: seconds of each later one.
        units: done by one call.
        device: that the contender worked on.
        host_bytes, device_bytes: the process's peaks until then; None where the device does not tell.
    """

    case: str
    unit: str
    contender: str
    first: float
    rounds: tuple[float, ...]
    units: float
    floor: Floor | None
    device: str
    host_bytes: int
    device_bytes: int | None

    @property
    def seconds(self) -> float:
        """The median round's."""
        return statistics.median(self.rounds)


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
    return tuple(cast(Case, importlib.import_module(f"jtrace.benchmark.{name}").CASE) for name in chosen)


def contend(setting: Setting, contender: str, cases: Sequence[Case], folder: Path) -> None:
    """In a contender's own process: measure its cases in order, and leave what was found in the folder."""
    shared = Shared(setting, contender)
    for case in (case for case in cases if contender in case.contenders):
        measured = case.measure(contender, shared)
        if measured is None:
            continue
        result = _result(case, contender, measured)
        np.savez(folder / f"{case.name}-{contender}.npz", **measured.arrays)  # type: ignore[arg-type]
        (folder / f"{case.name}-{contender}.json").write_text(json.dumps(dataclasses.asdict(result)))
        rounds = f"{result.seconds:.3g} s for {result.units:,.0f} {case.unit}, the first {result.first:.3g} s"
        print(f"{case.name:12} {contender:10} {rounds}", flush=True)
    if contender == JTRACE:
        # Last, so that its own arrays are in no case's peak memory.
        paces = {dtype: dataclasses.asdict(measure_pace(dtype)) for dtype in {setting.dtype, "float32"}}
        (folder / PACE).write_text(json.dumps(paces))


def run_all(setting: Setting, cases: Sequence[Case], start: Start) -> dict[str, Any]:
    """Let every contender that some case has run, one after another; the report, ready for JSON.

    Contenders that fail stand in the report under `failed`, and what they had done before is kept.
    """
    failed, wanted = {}, {contender for case in cases for contender in case.contenders}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_setting(setting, folder / SETTING)
        for contender in (contender for contender in CONTENDERS if contender in wanted):
            status, told = start(contender, folder)
            if status:
                lines = told.strip().splitlines() or [f"it ended with status {status}"]
                failed[contender] = {"line": lines[-1].removeprefix("error: "), "tail": told[-TAIL:]}
                print(f"{contender} failed: {failed[contender]['line']}", flush=True)
        return _report(setting, cases, folder) | {"failed": failed}


def check(report: Mapping[str, Any], out: Path) -> None:
    """That every contender ran and every bar holds.

    Raises:
        InputError: else; the first that did not.
    """
    for contender, fault in report["failed"].items():
        raise InputError(f"the contender '{contender}' failed: {fault['line']}; the end of its stderr is in {out}")
    for row in report["agreements"]:
        if not row["holds"]:
            raise InputError(
                f"{row['case']}: {row['name']} is {row['value']:.2e}, over its bar of {row['bar']:.0e}; see {out}"
            )


def start_process(command: Sequence[str]) -> Start:
    """Contenders as processes of this command, with `--contender` and `--setting` added; stdout is this process's."""

    def start(contender: str, folder: Path) -> tuple[int, str]:
        environment = os.environ | ({} if contender == JTRACE else {"JAX_PLATFORMS": "cpu"})
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


def _result(case: Case, contender: str, measured: Measured) -> Result:
    # Linux tells kilobytes, macOS bytes.
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    device, peak = _device(contender)
    return Result(
        case=case.name,
        unit=case.unit,
        contender=contender,
        first=measured.first,
        rounds=measured.rounds,
        units=measured.units,
        floor=measured.floor,
        device=device,
        host_bytes=host,
        device_bytes=peak,
    )


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
    if (folder / PACE).is_file():
        paces = {dtype: Pace(**pace) for dtype, pace in json.loads((folder / PACE).read_text()).items()}
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
            agreements += [
                dataclasses.asdict(of) | {"case": case.name, "holds": bool(of.holds)} for of in case.agree(found)
            ]
    return {
        "setting": json.loads(json.dumps(dataclasses.asdict(setting), default=str)),
        "pace": {dtype: dataclasses.asdict(pace) for dtype, pace in paces.items()},
        "results": rows,
        "agreements": agreements,
    }


def _read_result(folder: Path, case: str, contender: str) -> Result | None:
    path = folder / f"{case}-{contender}.json"
    if not path.is_file():
        return None
    values = json.loads(path.read_text())
    floor = values["floor"] and Floor(**values["floor"])
    return Result(**values | {"floor": floor, "rounds": tuple(values["rounds"])})


def _row(result: Result, ours: Result | None, paces: Mapping[str, Pace], dtype: str) -> dict[str, Any]:
    """A result with its summaries; `ratio` is the peer's seconds per unit over jtrace's."""
    row = dataclasses.asdict(result) | {
        "seconds": result.seconds,
        "least": min(result.rounds),
        "most": max(result.rounds),
        "units_per_second": result.units / result.seconds,
    }
    if ours is not None:
        row["ratio"] = (result.seconds / result.units) / (ours.seconds / ours.units)
    if result.floor and (pace := paces.get(result.floor.dtype or dtype)):
        row["standing"] = dataclasses.asdict(stand(result.floor, result.seconds, pace))
    return row
