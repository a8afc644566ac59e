"""Runs in Python: a sweep over checkpoints, and what a run directory holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import pandas as pd

from jtrace.api.arguments import in_python_words
from jtrace.api.vectors import load_vectors
from jtrace.checkpoints.refs import parse_specs
from jtrace.data.loading import read_all, read_statements
from jtrace.data.statements import Statements
from jtrace.data.tokenizer import SpecialTokens
from jtrace.data.world.spec import names_world
from jtrace.errors import InputError
from jtrace.evaluation.registry import Judges, TaskSources, read_tasks
from jtrace.hub.client import hub_in
from jtrace.models.sharding import default_layout
from jtrace.probing.protocols import PROTOCOLS, Protocol
from jtrace.probing.sound_set import SoundConfig
from jtrace.probing.vectors import KINDS, MASS_MEAN
from jtrace.report import build
from jtrace.report.summary import best_layers
from jtrace.runs.run_directory import RunDirectory
from jtrace.runtime.budget import most_memory, parse_size
from jtrace.runtime.compilation import use_cache
from jtrace.runtime.devices import computing_dtype
from jtrace.runtime.names import file_name
from jtrace.steering.vector import SteeringVector
from jtrace.sweep.behaviour import behaviour_protocols
from jtrace.sweep.config import SweepConfig
from jtrace.sweep.into_run import sweep_into
from jtrace.sweep.work import Limits, Work

SetLike = Statements | str | Path


@in_python_words
def load_statements(
    statements: str | Path, *, data_dir: str | Path | None = None, cache_dir: str | Path | None = None
) -> Statements:
    """Loads a statement set.

    Args:
        statements: a built-in name (`stereoset`), a set of the invented world (`world-fairness`), or a CSV, JSONL or
            Parquet file with columns statement, label and perhaps group.
        data_dir: folder of the built-in sets as the published CSV files; without it they are built from their sources.
        cache_dir: where downloads are kept, laid out as HF_HOME.

    Raises:
        InputError: there is no such set or file, or it breaks a rule.
    """
    folders = [Path(folder) if folder else None for folder in (data_dir, cache_dir)]
    if not names_world(str(statements)):
        return read_statements(str(statements), *folders)
    sets = read_all([str(statements)], *folders)
    if len(sets) > 1:
        raise InputError(f"statements={statements}: stands for {', '.join(one.name for one in sets)}; name one")
    return sets[0]


@in_python_words
def trace(
    checkpoints: str | Path | Sequence[str | Path],
    statements: SetLike | Sequence[SetLike],
    out: str | Path,
    *,
    protocol: Protocol | Sequence[Protocol] = "paper",
    layers: Sequence[int] | None = None,
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    sound: SoundConfig | None = None,
    vector_kinds: Sequence[str] = (MASS_MEAN,),
    behaviour: Sequence[str] = (),
    limit: int | None = None,
    keep_activations: bool = False,
    tokenizer: str | Path | None = None,
    special_tokens: SpecialTokens = "parse",
    data_dir: str | Path | None = None,
    cache_dir: str | Path | None = None,
    disk_budget: str | None = None,
    memory_budget: str | None = None,
    keep_downloads: bool = False,
    max_failures: int | None = None,
    progress: bool = True,
) -> "Run":
    """Traces checkpoints into a run directory, as `jtrace trace` does; the same call goes on with what is missing.

    Args:
        checkpoints: folders, globs, hub revisions, suites (`pythia-160m:log`) or pre-training runs.
        statements: `Statements`, names or files, one or several.
        out: the run directory: new, empty, or an earlier run of the same settings.
        sound: settings of protocol `sound`.
        progress: show bars on a terminal. Nothing else is printed, but for what is wrong with a checkpoint.

    All other arguments are those of the flags of the same names.

    Returns:
        The run. A checkpoint that could not be traced is in its `failures`.

    Raises:
        InputError: an argument is at fault, no checkpoint could be traced, or the sweep was given up.
    """
    use_cache()
    protocols = (protocol,) if isinstance(protocol, str) else tuple(protocol)
    if not protocols or not set(protocols) <= set(PROTOCOLS):
        raise InputError(f"protocol={protocol!r}: known are {', '.join(PROTOCOLS)}")
    if unknown := [kind for kind in vector_kinds if kind not in KINDS]:
        raise InputError(f"vector_kinds: no kind {unknown[0]!r}; known are {', '.join(KINDS)}")
    config = SweepConfig(
        dtype=computing_dtype(dtype),
        protocols=tuple(dict.fromkeys(protocols)),
        layers=None if layers is None else tuple(sorted(set(layers))),
        tokenizer=Path(tokenizer) if tokenizer else None,
        special_tokens=special_tokens,
        keep_activations=keep_activations,
        vector_kinds=tuple(kind for kind in KINDS if kind in {MASS_MEAN, *vector_kinds}),
        sound=sound or SoundConfig(),
    )
    hub = hub_in(cache_dir)
    specs = [checkpoints] if isinstance(checkpoints, str | Path) else checkpoints
    refs = parse_specs([str(spec) for spec in specs], hub.revisions)
    folders = [Path(folder) if folder else None for folder in (data_dir, cache_dir)]
    given = [statements] if isinstance(statements, Statements | str | Path) else list(statements)
    read = ((each,) if isinstance(each, Statements) else read_all([str(each)], *folders) for each in given)
    sets = tuple(one for several in read for one in several)
    if twice := [one.name for at, one in enumerate(sets) if one.name in {other.name for other in sets[:at]}]:
        raise InputError(f"statements: two sets are called {twice[0]!r}; give one of them another name")
    if not sets:
        raise InputError("statements: names no set; give one at least")
    names = tuple(one.name for one in sets)
    sources = TaskSources(sets, names, data_dir=folders[0], cache_dir=folders[1], limit=limit)
    tasks = read_tasks(list(behaviour), behaviour_protocols(config), sources, Judges()) if behaviour else []
    limits = Limits(
        disk_budget=parse_size("disk_budget", disk_budget) if disk_budget else None,
        memory_budget=parse_size("memory_budget", memory_budget) if memory_budget else most_memory(),
        keep_downloads=keep_downloads,
        max_failures=max_failures,
    )
    work = Work(refs, sets, config, tasks, layout=default_layout(jax.local_devices()))
    swept = sweep_into(Path(out), work, limits, hub, quiet=not progress, lines=False)
    if len(swept.left) == len(refs):
        reasons = list(swept.failures.values())
        raise InputError(f"{out}: none of {len(refs)} checkpoints could be traced: {reasons[0] if reasons else ''}")
    return Run(swept.run)


@in_python_words
def open_run(run: str | Path) -> "Run":
    """Opens a run directory to read what it holds.

    Raises:
        InputError: there is no such folder, or it is no run.
    """
    directory = RunDirectory(Path(run))
    directory.record()
    return Run(directory)


@dataclass(frozen=True)
class Run:
    """A run directory. Everything is read when it is asked for, so a run may go on meanwhile."""

    directory: RunDirectory

    @property
    def path(self) -> Path:
        """The folder."""
        return self.directory.path

    @property
    def metrics(self) -> pd.DataFrame:
        """Metrics of all checkpoints, a row per set, layer, protocol and metric; columns as in RUN/metrics."""
        return self.directory.read_metrics()

    @property
    def checkpoints(self) -> list[str]:
        """Names of the checkpoints that are traced, as files have them."""
        return [path.stem for path in self.directory.tables()]

    @property
    def failures(self) -> dict[str, str]:
        """Reasons why checkpoints are not traced, by name."""
        return {name: str(note["error"]) for name, note in self.directory.failures().items()}

    @property
    def warnings(self) -> list[str]:
        """Warnings on checkpoints, from when they were traced."""
        return self.directory.warnings()

    @property
    def steering(self) -> pd.DataFrame:
        """Effects of vectors, a row per vector, layer, strength, task and metric; columns as in RUN/steering."""
        return self.directory.read_steering()

    @in_python_words
    def vectors(self, checkpoint: str, kind: str = MASS_MEAN) -> dict[str, SteeringVector]:
        """Reads the steering vectors of a checkpoint, by statement set.

        Args:
            checkpoint: its name, with its organisation or without, as `pythia-160m@step1000`.

        Raises:
            InputError: the run has no vectors of it, or of several of that name.
        """
        folder = self.path / "vectors" / ("" if kind == MASS_MEAN else kind)
        held = {path.stem: path for path in sorted(folder.glob("*.safetensors"))}
        name = file_name(checkpoint)
        named = [one for one in held if one == name] or [one for one in held if one.endswith(f"--{name}")]
        if len(named) != 1:
            raise InputError(
                f"{self.path}: {len(named) or 'no'} files of {kind} vectors of {checkpoint!r}; there are those of "
                f"{', '.join(held)}"
            )
        return load_vectors(held[named[0]])

    @in_python_words
    def dynamics(self, table: str) -> pd.DataFrame:
        """Reads a table of the course of pre-training: `onsets`, `change_points`, `turns`, `angles`, …

        Returns:
            The table; empty where nothing of the kind was seen.

        Raises:
            InputError: there is no table of this name, or its file is damaged.
        """
        if table not in build.DYNAMICS_TABLES:
            raise InputError(f"table={table!r}: there are {', '.join(build.DYNAMICS_TABLES)}")
        rows = self.directory.read_dynamics(table)
        return pd.DataFrame() if rows is None else rows

    def best_layers(self, protocol: Protocol | None = None) -> pd.DataFrame:
        """Tabulates each set at its best layer of the last checkpoint, as the command's closing table does.

        Args:
            protocol: the first of the run if None.
        """
        metrics = self.metrics
        return best_layers(metrics, protocol or str(metrics["protocol"].iloc[0]))

    def report(self, out: str | Path | None = None) -> Path:
        """Writes the report, see `write_report`."""
        return write_report(self, out)

    def __repr__(self) -> str:
        done, failed = self.checkpoints, self.failures
        sets = ", ".join(self.directory.record()["data"])
        wrong = f", {len(failed)} failed" if failed else ""
        return f"Run({str(self.path)!r}: {len(done)} checkpoints traced{wrong}; sets {sets})"

    def _repr_html_(self) -> str:
        table: Any = self.best_layers() if self.checkpoints else pd.DataFrame()
        return f"<p>{self!r}</p>{table.to_html(index=False, float_format='{:.3f}'.format)}"


@in_python_words
def write_report(run: Run | str | Path, out: str | Path | None = None) -> Path:
    """Writes the report of a run, one HTML page that needs no network.

    Args:
        out: the file; `report.html` in the run directory if None.

    Returns:
        The file.

    Raises:
        InputError: the folder is no run, or one of its tables is damaged.
    """
    folder = run.path if isinstance(run, Run) else Path(run)
    return build.write_report(folder, Path(out) if out else None)
