"""Measure jtrace beside torch and scikit-learn, and beside what the device could do at most.

    jtrace benchmark --checkpoint=runs/models/smollm2 --statements=stereoset --data_dir=DATA \
        --limit=100 --prompts=8 --rounds=1 --out=runs/benchmark.json
    jtrace benchmark --shape=amber-7b --tokenizer=runs/models/smollm2 --dtype=bfloat16 --sample=32 \
        --statements=truthfulqa,toxigen,confaide,stereoset,sst2 --data_dir=DATA --rounds=2 --prompts=64 --out=h100.json

Sub-benchmarks are named beside the flags: extract attention probe information load generate score sweep, which are the
usual ones (attention on a GPU only), sound and train. Every contender runs in a process of its own, one after another,
on the same device, weights and statements. What compiles does so in a first call, which is told apart; what
does not is warmed by a short one; the table gives medians and spreads of the rounds. What they find is compared, and
the status is 1 where a bar does not hold or something failed; --out has what was measured until then. Needs the `torch`
extra, and the machine to itself: its pace drifts, and --turns=2 tells drift from difference. The first command takes a
few minutes on two CPU cores; without --limit nearly all of the time is the published loop's. The second is for one
H100, where nothing was measured yet; its weights take 27 GB of disk in --work; named in parts it runs in parts.
"""

import json
import sys
import tempfile
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from absl import flags

from jtrace.benchmark.report import lines
from jtrace.benchmark.runner import PACE, check, contend, read_setting, run_all, select, start_process
from jtrace.benchmark.shapes import SHAPES, write_shape
from jtrace.benchmark.workload import CONTENDERS, Setting
from jtrace.checkpoints.load import read_config_json
from jtrace.commands import cli
from jtrace.data.loading import read_all
from jtrace.errors import InputError
from jtrace.runtime.atomic import atomic_write
from jtrace.runtime.paths import whole

FLAGS = flags.FlagValues()
CHECKPOINT = flags.DEFINE_string("checkpoint", None, "A Hugging Face folder of the llama family.", flag_values=FLAGS)
SHAPE = flags.DEFINE_enum(
    "shape", None, list(SHAPES), "Random weights of this shape instead of a checkpoint.", flag_values=FLAGS
)
TOKENIZER = flags.DEFINE_string(
    "tokenizer", None, "Folder of the tokeniser; the checkpoint's own by default.", flag_values=FLAGS
)
STATEMENTS = flags.DEFINE_list(
    "statements", ["stereoset"], "Built-in sets, or CSV, JSONL or Parquet files.", flag_values=FLAGS
)
DATA_DIR = flags.DEFINE_string("data_dir", None, "Where built-in sets lie as CSV.", flag_values=FLAGS)
OUT = flags.DEFINE_string("out", None, "JSON file for the report.", flag_values=FLAGS)
WORK = flags.DEFINE_string(
    "work", None, "Where the weights of --shape are written and removed again; system's temp.", flag_values=FLAGS
)
DTYPE = flags.DEFINE_enum(
    "dtype", "float32", ["float32", "bfloat16"], "Of the models; bfloat16 for a GPU.", flag_values=FLAGS
)
ROUNDS = flags.DEFINE_integer("rounds", 3, "Timed calls; medians are reported.", lower_bound=1, flag_values=FLAGS)
TURNS = flags.DEFINE_integer(
    "turns", 1, "Times that every contender has its turn, one after another.", lower_bound=1, flag_values=FLAGS
)
LIMIT = flags.DEFINE_integer(
    "limit", None, "Only the first so many rows of each set.", lower_bound=20, flag_values=FLAGS
)
SAMPLE = flags.DEFINE_integer(
    "sample",
    None,
    "For large models: one-by-one peers do that many items, once, and no sweep; published statistics are taken of two "
    "layers; peers load once.",
    lower_bound=2,
    flag_values=FLAGS,
)
PROMPTS = flags.DEFINE_integer(
    "prompts", 32, "Prompts continued, and questions scored.", lower_bound=1, flag_values=FLAGS
)
NEW_TOKENS = flags.DEFINE_integer("max_new_tokens", 32, "Of a completion.", lower_bound=1, flag_values=FLAGS)
CONTENDER = flags.DEFINE_enum(
    "contender", None, (PACE, *CONTENDERS), "Run this one only (internal).", flag_values=FLAGS
)
SETTING = flags.DEFINE_string("setting", None, "What to measure, as a file (internal).", flag_values=FLAGS)


def write(report: dict[str, Any], out: Path) -> None:
    with atomic_write(out) as aside:
        aside.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n")


def main(names: list[str]) -> int:
    cases = select(names)
    if CONTENDER.value or SETTING.value:
        if not (CONTENDER.value and SETTING.value):
            raise InputError("--contender and --setting are internal and go together; leave them out")
        cli.check_device()
        path = Path(SETTING.value)
        contend(read_setting(path), CONTENDER.value, cases, path.parent)
        return 0
    if not OUT.value:
        raise InputError("--out is missing; name a JSON file for the report")
    if (CHECKPOINT.value is None) == (SHAPE.value is None):
        raise InputError("give either --checkpoint or --shape")
    if not CHECKPOINT.value and not TOKENIZER.value:
        raise InputError("--shape has no tokeniser; name a folder that has one by --tokenizer")
    if find_spec("torch") is None:
        raise InputError("the benchmark needs torch and scikit-learn; install them by pip install -e '.[torch]'")
    # Before anything long: a checkpoint or a set that cannot be read is told at once.
    if CHECKPOINT.value:
        read_config_json(Path(CHECKPOINT.value))
    read_all(whole(STATEMENTS.value), Path(DATA_DIR.value) if DATA_DIR.value else None)
    out = Path(OUT.value)
    with ExitStack() as stack:
        if SHAPE.value:
            checkpoint = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=WORK.value))) / SHAPE.value
            print(f"writing random weights of {SHAPE.value} to {checkpoint}", flush=True)
            write_shape(checkpoint, SHAPES[SHAPE.value])
        else:
            checkpoint = Path(CHECKPOINT.value or "")
        setting = Setting(
            checkpoint=checkpoint,
            tokenizer=Path(TOKENIZER.value or checkpoint),
            statements=tuple(whole(STATEMENTS.value)),
            data_dir=Path(DATA_DIR.value) if DATA_DIR.value else None,
            dtype=DTYPE.value,
            rounds=ROUNDS.value,
            limit=LIMIT.value,
            sample=SAMPLE.value,
            new_tokens=NEW_TOKENS.value,
            prompts=PROMPTS.value,
        )
        start = start_process([sys.executable, "-P", "-m", "jtrace", "benchmark", *(case.name for case in cases)])
        report = run_all(setting, cases, start, TURNS.value, lambda so_far: write(so_far, out))
    print("\n" + "\n".join(lines(report)))
    check(report, out)
    return 0
