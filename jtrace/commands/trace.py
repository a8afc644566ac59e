"""Trace checkpoints: linear probes, mutual information and steering vectors of every layer.

    jtrace trace --checkpoints=runs/models/smollm2 --statements=statements.csv --out=runs/smollm2
    jtrace trace --checkpoints=runs/models/smollm2 --statements=a.csv --protocol=paper,sound --out=runs/both
    jtrace trace --checkpoints=pythia-160m:log --statements=statements.csv --out=runs/pythia --dry_run

Takes one to two minutes for a model of 135 M parameters and 2,000 short statements on two CPU cores. It first says what
is odd in the statements, prints a line per checkpoint, ends with a table of the best layer of each set, and leaves
tables, vectors and figures in the run directory. Downloads, reading and computing overlap. A rerun of the same command
does only what is missing, whatever stopped it, and several processes may run it on one directory; a checkpoint whose
weights, config or tokeniser have changed since is traced again. --dry_run prints the plan alone: revisions, tokens
seen, download size, disk needed, estimated time.

A folder's name tells its step: step500, step-1k (k, M and B right after the number), checkpoint-500, ckpt_010,
iter_0000100, ep0-ba500, epoch=0-step=500 or 500 alone; a model's name or a stage may stand before it, as in
pythia-step200 and stage1-step1000-tokens2B. Any other name tells none. Of a folder's weights model.safetensors is read,
else the shards of its index, else the same of pytorch_model.bin.

Checkpoints of a public suite are selected by SUITE:ITEMS, items separated by commas: all; log (log-spaced); a number;
a range A-B; a range with a stride A-B/S; a revision by name.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import jax
from absl import flags

from jtrace.checkpoints.refs import CheckpointRef, parse_specs
from jtrace.checkpoints.suites import describe
from jtrace.commands import cli
from jtrace.commands.flags import parse_layers, parse_protocols
from jtrace.data.loading import read_all
from jtrace.data.statements import Statements
from jtrace.data.tokenizer import SpecialTokens
from jtrace.errors import InputError
from jtrace.evaluation.registry import HARNESS_TASK, JUDGED, TASKS, Judges, TaskSources, assumed_meanings, read_tasks
from jtrace.evaluation.task import Task
from jtrace.hub.client import Hub, hub_in
from jtrace.models.sharding import Layout, default_layout, parse_mesh
from jtrace.probing.sound_set import SoundConfig
from jtrace.probing.vectors import KINDS, MASS_MEAN
from jtrace.report.figures.draw import draw_all
from jtrace.report.summary import as_text, best_layers, comparison_text
from jtrace.runs.run_directory import RunDirectory
from jtrace.runtime.budget import most_memory, parse_size
from jtrace.runtime.devices import computing_dtype
from jtrace.runtime.distributed import initialize
from jtrace.runtime.paths import whole
from jtrace.sweep.behaviour import behaviour_protocols
from jtrace.sweep.config import SweepConfig
from jtrace.sweep.into_run import Swept, sweep_into
from jtrace.sweep.plan import make_plan, plan_text
from jtrace.sweep.work import Limits, Work

FLAGS = flags.FlagValues()
CHECKPOINTS = flags.DEFINE_multi_string(
    "checkpoints",
    None,
    "Checkpoints to trace: a Hugging Face folder, a glob of folders (ordered by the step in the name), a hub "
    "revision (org/name@rev1,rev2), a public suite (pythia-160m:log, amber:0,1,2), or several of these separated by "
    "';'. May be repeated.",
    required=True,
    flag_values=FLAGS,
)
STATEMENTS = flags.DEFINE_list(
    "statements",
    None,
    "Statement sets, separated by commas: CSV, JSONL or Parquet files with columns statement,label[,group], or "
    "built-in names (truthfulqa, toxigen, confaide, stereoset, sst2).",
    required=True,
    flag_values=FLAGS,
)
OUT = flags.DEFINE_string(
    "out", None, "Run directory: new, empty, or an earlier run of the same settings.", required=True, flag_values=FLAGS
)
PROTOCOL = flags.DEFINE_list(
    "protocol",
    ["paper"],
    "How to measure: paper (the published procedure), sound (grouped cross-validation, intervals, baselines, nulls), "
    "or both from the same activations.",
    flag_values=FLAGS,
)
FOLDS = flags.DEFINE_integer(
    "folds", 5, "Of sound: folds of the grouped cross-validation.", lower_bound=2, flag_values=FLAGS
)
REPEATS = flags.DEFINE_integer(
    "repeats", 1, "Of sound: how often it is repeated, on other folds.", lower_bound=1, flag_values=FLAGS
)
INNER_FOLDS = flags.DEFINE_integer(
    "inner_folds",
    1,
    "Of sound: folds within the training rows that choose C; 1 is a single hold-out of a fifth.",
    lower_bound=1,
    flag_values=FLAGS,
)
PERMUTATIONS = flags.DEFINE_integer(
    "permutations", 200, "Of sound: of the null of information.", lower_bound=20, flag_values=FLAGS
)
DRAWS = flags.DEFINE_integer("draws", 1000, "Of sound: of the cluster bootstrap.", lower_bound=100, flag_values=FLAGS)
INFORMATION_ROWS = flags.DEFINE_integer(
    "information_rows",
    400,
    "Of sound: most rows, one per group, that information is estimated on; sets that have so many compare.",
    lower_bound=16,
    flag_values=FLAGS,
)
SEED = flags.DEFINE_integer(
    "seed", 0, "Of sound: folds, draws, permutations and random params.", lower_bound=0, flag_values=FLAGS
)
LAYERS = flags.DEFINE_string(
    "layers",
    "all",
    "Layers to report: all, or numbers and ranges as 0,6,12-18. Blocks above the last are not computed.",
    flag_values=FLAGS,
)
DTYPE = flags.DEFINE_enum(
    "dtype",
    "auto",
    ["auto", "float32", "bfloat16"],
    "Type of params, forward and kept activations; auto is bfloat16 on GPU and TPU, float32 on CPU. Statistics are "
    "float32 always.",
    flag_values=FLAGS,
)
DATA_DIR = flags.DEFINE_string(
    "data_dir",
    None,
    "Folder that holds the built-in sets as the published CSV files; without it they are built from their sources.",
    flag_values=FLAGS,
)
TOKENIZER = flags.DEFINE_string(
    "tokenizer", None, "Folder of the tokeniser; by default each checkpoint's own.", flag_values=FLAGS
)
SPECIAL_TOKENS = flags.DEFINE_enum(
    "special_tokens",
    "parse",
    ["parse", "text"],
    "What special tokens that are written out in a statement, as </s>, are read as: parse (themselves), or text.",
    flag_values=FLAGS,
)
CACHE_DIR = flags.DEFINE_string(
    "cache_dir",
    None,
    "Where downloads are kept, laid out as HF_HOME; by default Hugging Face's own.",
    flag_values=FLAGS,
)
DRY_RUN = flags.DEFINE_boolean(
    "dry_run",
    False,
    "Print the plan and stop: revisions, tokens, download size, disk needed, estimated time.",
    flag_values=FLAGS,
)
KEEP_ACTIVATIONS = flags.DEFINE_boolean(
    "keep_activations", False, "Also write the residuals of every set.", flag_values=FLAGS
)
DISK_BUDGET = flags.DEFINE_string(
    "disk_budget",
    None,
    "Most bytes of downloads on the disk at once, as 200GB; by default what is free.",
    flag_values=FLAGS,
)
MEMORY_BUDGET = flags.DEFINE_string(
    "memory_budget",
    None,
    "Most bytes of params in the host's memory at once, as 64GB: of the checkpoint that is traced and of the next one, "
    "which is read meanwhile; by default 70 % of the machine's memory.",
    flag_values=FLAGS,
)
KEEP_DOWNLOADS = flags.DEFINE_boolean(
    "keep_downloads",
    False,
    "Leave downloads in the cache; by default those that this run brought there go once they are traced.",
    flag_values=FLAGS,
)
MAX_FAILURES = flags.DEFINE_integer(
    "max_failures", None, "Give up after so many failed checkpoints.", lower_bound=1, flag_values=FLAGS
)
MESH = flags.DEFINE_string(
    "mesh",
    None,
    "Devices as a mesh, as data:4,model:2: statements are split over data, weights over model; by default all devices "
    "on data.",
    flag_values=FLAGS,
)
DISTRIBUTED = flags.DEFINE_boolean(
    "distributed",
    False,
    "One of several processes, as SLURM, a TPU pod or --coordinator says; checkpoints are shared out over them.",
    flag_values=FLAGS,
)
ONE_MESH = flags.DEFINE_boolean(
    "one_mesh",
    False,
    "With --distributed: one mesh over all processes, for models that do not fit one host.",
    flag_values=FLAGS,
)
COORDINATOR = flags.DEFINE_string(
    "coordinator",
    None,
    "With --distributed, where neither SLURM nor a TPU pod tells: host:port of the first process.",
    flag_values=FLAGS,
)
PROCESSES = flags.DEFINE_integer(
    "processes", None, "With --coordinator: how many processes there are.", lower_bound=1, flag_values=FLAGS
)
PROCESS = flags.DEFINE_integer(
    "process", None, "With --coordinator: which one this is, from 0.", lower_bound=0, flag_values=FLAGS
)
UNJUDGED = [task for task in TASKS if task not in JUDGED]
BEHAVIOUR = flags.DEFINE_list(
    "behaviour",
    [],
    "Tasks that each checkpoint is asked as well, without steering, so that probes and behaviour can be compared: "
    f"{', '.join((*UNJUDGED, HARNESS_TASK))}. Reads all layers.",
    flag_values=FLAGS,
)
LIMIT = flags.DEFINE_integer(
    "limit", None, "Only the first so many rows of each task of --behaviour.", lower_bound=1, flag_values=FLAGS
)
VECTOR_KINDS = flags.DEFINE_list(
    "vector_kinds",
    [MASS_MEAN],
    f"Steering vectors to make: {', '.join(KINDS)}. {MASS_MEAN}, the published one, is always made.",
    flag_values=FLAGS,
)

__doc__ = f"{__doc__}\n{describe()}\n"


def main() -> int:
    # Before anything asks JAX for its devices.
    if DISTRIBUTED.value:
        initialize(COORDINATOR.value, PROCESSES.value, PROCESS.value, one_mesh=ONE_MESH.value)
    elif ONE_MESH.value or COORDINATOR.value is not None:
        raise InputError("--one_mesh and --coordinator are for several processes; give --distributed as well")
    cli.check_device()
    protocols = parse_protocols(PROTOCOL.value)
    unknown = [kind for kind in VECTOR_KINDS.value if kind not in KINDS]
    if unknown:
        raise InputError(f"--vector_kinds={','.join(VECTOR_KINDS.value)}: known are {', '.join(KINDS)}")
    dtype = computing_dtype(DTYPE.value)
    config = SweepConfig(
        dtype=dtype,
        protocols=protocols,
        layers=parse_layers(LAYERS.value),
        tokenizer=Path(TOKENIZER.value) if TOKENIZER.value else None,
        special_tokens=cast(SpecialTokens, SPECIAL_TOKENS.value),
        keep_activations=KEEP_ACTIVATIONS.value,
        vector_kinds=tuple(kind for kind in KINDS if kind in {MASS_MEAN, *VECTOR_KINDS.value}),
        sound=SoundConfig(
            folds=FOLDS.value,
            repeats=REPEATS.value,
            inner_folds=INNER_FOLDS.value,
            permutations=PERMUTATIONS.value,
            draws=DRAWS.value,
            information_rows=INFORMATION_ROWS.value,
            seed=SEED.value,
        ),
    )
    data_dir, cache_dir = (Path(flag.value) if flag.value else None for flag in (DATA_DIR, CACHE_DIR))
    hub = hub_in(cache_dir)
    refs = parse_specs(CHECKPOINTS.value, hub.revisions)
    sets = read_all(whole(STATEMENTS.value), data_dir, cache_dir)
    judged = [task for task in BEHAVIOUR.value if task in JUDGED]
    if judged:
        raise InputError(f"--behaviour: {judged[0]} needs a judge; ask it by jtrace steer with --strengths=0")
    names = tuple(statements.name for statements in sets)
    data = TaskSources(sets, names, data_dir=data_dir, cache_dir=cache_dir, limit=LIMIT.value)
    asked = BEHAVIOUR.value
    tasks = read_tasks(asked, behaviour_protocols(config), data, Judges()) if asked else []
    for warning in assumed_meanings(asked, data):
        print(f"warning: {warning}", file=sys.stderr)
    if ONE_MESH.value and asked:
        raise InputError("--behaviour is asked by one process alone; leave it out, or --one_mesh")
    devices = jax.devices() if ONE_MESH.value else jax.local_devices()
    layout = parse_mesh(MESH.value, devices) if MESH.value else default_layout(devices)
    limits = Limits(
        disk_budget=parse_size("disk_budget", DISK_BUDGET.value) if DISK_BUDGET.value else None,
        memory_budget=parse_size("memory_budget", MEMORY_BUDGET.value) if MEMORY_BUDGET.value else most_memory(),
        keep_downloads=KEEP_DOWNLOADS.value,
        max_failures=MAX_FAILURES.value,
    )
    if DRY_RUN.value:
        plan = make_plan(refs, sets, config, hub, Path(OUT.value), tasks, limits, layout)
        print(plan_text(plan))
        return 0 if plan.feasible else 1
    return trace_into(Path(OUT.value), refs, sets, config, hub, tasks, limits, layout, ONE_MESH.value)


def trace_into(
    out: Path,
    refs: Sequence[CheckpointRef],
    sets: Sequence[Statements],
    config: SweepConfig,
    hub: Hub | None = None,
    tasks: Sequence[Task] = (),
    limits: Limits | None = None,
    layout: Layout | None = None,
    one_mesh: bool = False,
) -> int:
    """A whole tracing command: open the run, trace what is missing, draw the figures, print the summary.

    Args:
        hub: where checkpoints that are not local folders come from; None is the default hub and cache.
        tasks: that each checkpoint is asked, without steering, once it is traced.
        layout: a mesh; None for one device.
        one_mesh: whether it spans all processes.

    Returns:
        The exit status: 0 if every checkpoint is traced, 1 otherwise.

    Raises:
        InputError: nothing could be started, or the sweep was given up.
    """
    limits, work = limits or Limits(), Work(refs, sets, config, tasks, layout=layout, one_mesh=one_mesh)
    swept = sweep_into(out, work, limits, hub or Hub(), say=lambda text: print(text, file=sys.stderr))
    if jax.process_index() > 0:
        return 1 if swept.failures else 0
    _conclude(swept.run, config)
    return _status(work, swept)


def _status(work: Work, swept: Swept) -> int:
    """0 if every checkpoint is traced, by whichever process; says how many are not."""
    run, left, on_record = swept.run, swept.left, swept.run.failures()
    failed = [ref for ref in left if ref.name in swept.failures or ref.name in on_record]
    if failed:
        print(f"{len(failed)} of {len(work.refs)} checkpoints failed, see {run.path}/failures.jsonl", file=sys.stderr)
    if len(left) > len(failed):
        print(
            f"{len(left) - len(failed)} of {len(work.refs)} checkpoints were left to another command; this one goes on "
            "with what is missing",
            file=sys.stderr,
        )
    return 1 if left or swept.failures else 0


def _conclude(run: RunDirectory, config: SweepConfig) -> None:
    """Tables, vectors and figures of all that has been traced."""
    metrics = run.read_metrics()
    if not len(metrics):
        return
    for protocol in config.protocols:
        print(f"\nprotocol {protocol}, at the layer of the highest probe accuracy at the last checkpoint:\n")
        print(as_text(best_layers(metrics, protocol)))
    if len(config.protocols) > 1:
        print(f"\nside by side, at the last checkpoint:\n\n{comparison_text(metrics)}")
    vectors = [run.path / "vectors" / ("" if kind == MASS_MEAN else kind) for kind in config.vector_kinds]
    print(f"\ntables   {run.path}/metrics/*.parquet")
    print("vectors  " + "\n         ".join(f"{folder}/*.safetensors" for folder in vectors))
    if (run.path / "dynamics").is_dir():
        print(f"course   {run.path}/dynamics/*.parquet")
    figures = draw_all(run, metrics)
    print("figures  " + "\n         ".join(str(figure.path) for figure in figures))
    for warning in run.audit():
        print(f"warning: {warning}", file=sys.stderr)
