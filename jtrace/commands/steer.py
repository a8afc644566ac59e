"""Steer a model and measure what it does: vectors × layers × strengths × tasks.

    python launch/steer.py --target=runs/models/smollm2 --vectors=runs/smollm2/vectors/smollm2.safetensors \\
        --vector_set=stereoset --tasks=stereoset,perplexity --layers=15 --strengths=-2,-1,0,1,2 \\
        --data_dir=data --out=runs/smollm2

A vector that launch/trace.py made of a checkpoint is added, times each strength, to the output of each layer of the
target; the tasks are asked under each. Takes a few minutes for a model of 135 M parameters and 1,000 prompts on two CPU
cores. It ends with a table of what each vector did at its best strength, or under --protocol=sound at the one that was
chosen on a part of the rows and is reported on the others, beside a random direction of equal norm (--random). Tables,
completions and figures are in the run directory, launch/report.py tells of them. A rerun does only what is missing.
"""

import dataclasses
import glob
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import jax.numpy as jnp
from absl import flags

from jtrace.checkpoints.content import read_content
from jtrace.checkpoints.load import read_config_json
from jtrace.checkpoints.names import in_order
from jtrace.checkpoints.refs import CheckpointRef, HubSource
from jtrace.commands import cli
from jtrace.commands.flags import (
    hub_of,
    parse_checkpoint,
    parse_dtype,
    parse_layer_groups,
    parse_protocols,
    parse_strengths,
    parse_vector_layers,
)
from jtrace.data.loading import read_all
from jtrace.data.tokenizer import SpecialTokens, class_disagreement
from jtrace.errors import InputError
from jtrace.evaluation.registry import TASKS, Judges, TaskSources, assumed_meanings, read_tasks
from jtrace.hub.client import Hub
from jtrace.inference.language_model import load_language_model
from jtrace.models.families import read_model_config
from jtrace.models.intervention import POSITIONS, Positions
from jtrace.probing.vectors import Vectors, read_vectors
from jtrace.report.figures.draw import draw_all
from jtrace.report.summary import as_text, steering_effects
from jtrace.runs.record import check_steering_out, open_steering
from jtrace.runtime.paths import matching, whole
from jtrace.steering.experiment import SteerConfig, check_steering, steer, vectors_for, with_controls
from jtrace.steering.vector import OPERATORS, Operator, combined, no_vector

STEERED = ("comparison", "steering", "agreement")
Scale = Literal["std", "plain"]
SCALES: tuple[Scale, ...] = ("std", "plain")


@dataclass(frozen=True)
class VectorChoice:
    """A choice of vectors to steer a target with.

    Attributes:
        files: of RUN/vectors; globs are read in the order of the steps in their names.
        sets: expressions as `jtrace.steering.vector.combined` reads them; empty for the only set of the files.
        towards_good: turned so that a positive strength is the trustworthy direction.
        any_family: see `jtrace.steering.experiment.vectors_for`.
        layers: which layer each row of a file is of, where the files do not say, see `Vectors.of_layers`; or None.
        scale: `std` for vectors as files hold them, `plain` for plain differences of class means, see `Vectors.plain`.
    """

    files: tuple[str, ...]
    sets: tuple[str, ...] = ()
    towards_good: bool = False
    any_family: bool = False
    layers: tuple[int | None, ...] | None = None
    scale: Scale = "std"


FLAGS = flags.FlagValues()
TARGET = flags.DEFINE_string(
    "target",
    None,
    "The model to steer: a folder, a hub revision, a step of a pre-training run.",
    required=True,
    flag_values=FLAGS,
)
VECTORS = flags.DEFINE_list(
    "vectors",
    [],
    "Files of RUN/vectors, or globs of them, separated by commas; each is a source checkpoint. Other kinds of vectors "
    "lie in folders of their own (RUN/vectors/whitened/…), see --vector_kinds of launch/trace.py.",
    flag_values=FLAGS,
)
VECTOR_SET = flags.DEFINE_list(
    "vector_set",
    [],
    "Whose vectors: statement sets, separated by commas, or sums as stereoset+-0.5*toxigen. May be left out where a "
    "file holds one, or where --statements says it.",
    flag_values=FLAGS,
)
VECTOR_LAYERS = flags.DEFINE_string(
    "vector_layers",
    "",
    "Which layers the rows of --vectors are of, where their files do not say and hold no row for each layer: numbers "
    "and ranges in the rows' order, and embedding for a row of no layer, as 15, or embedding,0-29 for hidden states.",
    flag_values=FLAGS,
)
VECTOR_SCALE = flags.DEFINE_enum(
    "vector_scale",
    "std",
    SCALES,
    "What strength 1 adds: std (as published, as much as the standard deviation of the statements' projections on the "
    "vector) or plain (the plain difference of class means, as other tools steer with; for vectors of kind mass_mean).",
    flag_values=FLAGS,
)
STATEMENTS = flags.DEFINE_list(
    "statements",
    [],
    "Files of statement sets that tasks of the same name ask about; else they are in --data_dir or on the hub.",
    flag_values=FLAGS,
)
TASK_NAMES = flags.DEFINE_list("tasks", None, f"What is asked: {', '.join(TASKS)}.", required=True, flag_values=FLAGS)
LAYERS = flags.DEFINE_string(
    "layers",
    "all",
    "Layers to steer, one after the other: all, or numbers and ranges as 0,6,12-18; 10+15 steers both at once.",
    flag_values=FLAGS,
)
STRENGTHS = flags.DEFINE_list(
    "strengths",
    ["-2", "-1", "0", "1", "2"],
    "What the vector is multiplied by; it points to label 1. Write --strengths=-1,0,1. Strength 1 is one standard "
    "deviation of the statements' projections on the vector, not the plain difference of means, see --vector_scale.",
    flag_values=FLAGS,
)
OUT = flags.DEFINE_string(
    "out", None, "Run directory: one that was traced, or a new one.", required=True, flag_values=FLAGS
)
PROTOCOL = flags.DEFINE_list(
    "protocol",
    ["paper"],
    "How to measure: paper (as published, on all evaluation rows), sound (by likelihood; layer and strength are chosen "
    "on a part of the rows), or both.",
    flag_values=FLAGS,
)
LIMIT = flags.DEFINE_integer(
    "limit", None, "Only the first so many evaluation rows of each task.", lower_bound=1, flag_values=FLAGS
)
POSITIONS_ = flags.DEFINE_enum(
    "positions",
    "last",
    POSITIONS,
    "Where it is added: last (a prompt's last position and every generated one, as published), all, or generated.",
    flag_values=FLAGS,
)
OPERATOR = flags.DEFINE_enum(
    "operator",
    "add",
    OPERATORS,
    "What is done: add (as published), add_keep_norm, project_out (1 removes the direction), clamp (the projection "
    "becomes strength times the vector).",
    flag_values=FLAGS,
)
TOWARDS_GOOD = flags.DEFINE_boolean(
    "towards_good",
    False,
    "Turn vectors so that positive strengths are the trustworthy side, whatever label 1 means.",
    flag_values=FLAGS,
)
RANDOM = flags.DEFINE_integer(
    "random",
    None,
    "How many random directions of equal norm to run beside each vector; by default one under protocol sound.",
    lower_bound=0,
    flag_values=FLAGS,
)
ANY_FAMILY = flags.DEFINE_boolean(
    "any_family",
    False,
    "Take vectors of another model family or depth, if their width is the target's.",
    flag_values=FLAGS,
)
TEXT = flags.DEFINE_string(
    "text",
    None,
    "For perplexity: a text file, wikitext, or world[:seed=…]; by default the rows that the vector's set leaves to "
    "evaluate on. A file and wikitext are one document each, scored whole in windows of up to 1,024 tokens that move "
    "by half, so that a token is predicted after at least half a window.",
    flag_values=FLAGS,
)
SHOTS = flags.DEFINE_integer(
    "shots", None, "Worked examples of capability tasks; by default 5 for mmlu.", lower_bound=0, flag_values=FLAGS
)
TOXICITY_JUDGE = flags.DEFINE_string(
    "toxicity_judge", None, "Folder of the classifier that judges toxigen's completions.", flag_values=FLAGS
)
TRUTH_JUDGE = flags.DEFINE_string(
    "truth_judge", None, "Folder of the model that says whether an answer is true.", flag_values=FLAGS
)
INFO_JUDGE = flags.DEFINE_string(
    "info_judge", None, "Folder of the model that says whether an answer informs.", flag_values=FLAGS
)
TEMPERATURE = flags.DEFINE_float("temperature", 0.0, "Of completions; 0 is greedy.", lower_bound=0.0, flag_values=FLAGS)
SEED = flags.DEFINE_integer(
    "seed", 0, "Of guesses, sampling, intervals and controls.", lower_bound=0, flag_values=FLAGS
)
DTYPE = flags.DEFINE_enum(
    "dtype",
    "auto",
    ["auto", "float32", "bfloat16"],
    "Of params and forward; auto is bfloat16 on GPU and TPU, float32 on CPU.",
    flag_values=FLAGS,
)
DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Folder of statement sets and task files; else they are from the hub.", flag_values=FLAGS
)
TOKENIZER = flags.DEFINE_string(
    "tokenizer", None, "Folder of the tokeniser; by default the target's own.", flag_values=FLAGS
)
SPECIAL_TOKENS = flags.DEFINE_enum(
    "special_tokens",
    "parse",
    ["parse", "text"],
    "What special tokens that are written out in a text, as </s>, are read as: parse (themselves), or text.",
    flag_values=FLAGS,
)
CACHE_DIR = flags.DEFINE_string("cache_dir", None, "Where downloads are kept, laid out as HF_HOME.", flag_values=FLAGS)


def main() -> int:
    cli.check_device()
    protocols = parse_protocols(PROTOCOL.value)
    data_dir, cache_dir, toxicity, truth, info, tokenizer = (
        Path(flag.value) if flag.value else None
        for flag in (DATA_DIR, CACHE_DIR, TOXICITY_JUDGE, TRUTH_JUDGE, INFO_JUDGE, TOKENIZER)
    )
    hub = hub_of(cache_dir)
    target = parse_checkpoint(TARGET.value, "--target", hub)
    seeds = RANDOM.value if RANDOM.value is not None else int("sound" in PROTOCOL.value)
    config = SteerConfig(
        strengths=parse_strengths(STRENGTHS.value),
        layers=parse_layer_groups(LAYERS.value),
        protocols=protocols,
        operator=cast(Operator, OPERATOR.value),
        positions=cast(Positions, POSITIONS_.value),
        temperature=TEMPERATURE.value,
        special_tokens=cast(SpecialTokens, SPECIAL_TOKENS.value),
        random=tuple(range(SEED.value, SEED.value + seeds)),
        seed=SEED.value,
    )
    statements = tuple(whole(STATEMENTS.value))
    data = TaskSources(
        statements=read_all(statements, data_dir, cache_dir) if statements else (),
        text=TEXT.value,
        data_dir=data_dir,
        cache_dir=cache_dir,
        limit=LIMIT.value,
        shots=SHOTS.value,
        seed=SEED.value,
    )
    dtype = parse_dtype(DTYPE.value)
    return steer_into(
        Path(OUT.value),
        target,
        VectorChoice(
            tuple(whole(VECTORS.value)),
            tuple(VECTOR_SET.value),
            TOWARDS_GOOD.value,
            ANY_FAMILY.value,
            parse_vector_layers(VECTOR_LAYERS.value),
            cast(Scale, VECTOR_SCALE.value),
        ),
        TASK_NAMES.value,
        data,
        Judges(toxicity, truth, info),
        config,
        dtype=dtype,
        tokenizer=tokenizer,
        hub=hub,
    )


def steer_into(
    out: Path,
    target: CheckpointRef,
    choice: VectorChoice,
    names: Sequence[str],
    data: TaskSources,
    judges: Judges,
    config: SteerConfig,
    *,
    dtype: str,
    tokenizer: Path | None = None,
    hub: Hub | None = None,
) -> int:
    """Steer a target and leave what it did in a run directory.

    Args:
        names: of tasks.

    Returns:
        The exit status: 0.

    Raises:
        InputError: something is wrong with what was given; completions that were made until then are kept.
    """
    check_steering_out(out)
    files = [(path, _read(path, choice)) for path in vector_files(choice.files)]
    sets = choice.sets or _only_set(files, data) if files else ()
    data = dataclasses.replace(data, vector_sets=tuple(dict.fromkeys(map(_first_set, sets))))
    tasks = read_tasks(names, config.protocols, data, judges)
    for warning in assumed_meanings(names, data):
        print(f"warning: {warning}", file=sys.stderr)
    folder = _folder(target, hub or Hub())
    content = read_content(folder, tokenizer)
    model = load_language_model(folder, target.name, jnp.dtype(dtype), tokenizer, config.special_tokens)
    if disagreement := class_disagreement(tokenizer or folder):
        print(f"warning: {tokenizer or folder}: {disagreement}", file=sys.stderr)
    if files:
        vectors = [
            vector.towards_good() if choice.towards_good else vector
            for path, found in files
            for by_set in (vectors_for(model, found, path, choice.any_family),)
            for vector in (combined(expression, by_set) for expression in sets)
        ]
        vectors = with_controls(vectors, config.random)
    else:
        if any(config.strengths):
            raise InputError(
                "--vectors names nothing; give files of RUN/vectors, or --strengths=0 to ask the model as it is"
            )
        # Without steering all layers are one.
        config = dataclasses.replace(config, layers=((0,),))
        vectors = [no_vector(model.config.depth, model.config.width)]
    check_steering(model, vectors, tasks, config)
    run = open_steering(out, target.name)
    steer(run.path / "steering", model, vectors, tasks, config, content.key)
    there = run.read_steering()
    of_these = there["vector_from"].isin([vector.source for vector in vectors]) & (there["target"] == model.name)
    table = steering_effects(there[of_these])
    if len(table):
        print(f"\n{as_text(table)}")
    print(f"\ntables       {out / 'steering'}\ncompletions  {out / 'completions'}")
    figures = draw_all(run, run.read_metrics())
    if drawn := [str(figure.path) for figure in figures if figure.section in STEERED]:
        print("figures      " + "\n             ".join(drawn))
    print(f"report       python launch/report.py --run={out}", flush=True)
    return 0


def _read(path: Path, choice: VectorChoice) -> Vectors:
    found = read_vectors(path)
    if choice.layers is not None:
        found = found.of_layers(choice.layers, path)
    return found.plain(path) if choice.scale == "plain" else found


def vector_files(specs: Sequence[str]) -> list[Path]:
    """The files that paths and globs name, those of a glob in the order of the steps in their names.

    Raises:
        InputError: a glob that matches nothing.
    """
    found: list[str] = []
    for spec in specs:
        # A file that is not there is named when it is read.
        matched = in_order(matching(spec)) if glob.has_magic(spec) else [spec]
        if not matched:
            raise InputError(f"--vectors: '{spec}' matches nothing; name files of RUN/vectors")
        found += matched
    return [Path(path) for path in dict.fromkeys(found)]


def _only_set(files: Sequence[tuple[Path, Vectors]], data: TaskSources) -> tuple[str, ...]:
    """The set that --vector_set need not name: the only one, or those of --statements."""
    path, first = files[0]
    if len(first.arrays) == 1:
        return tuple(first.arrays)
    given = tuple(statements.name for statements in data.statements if statements.name in first.arrays)
    if not given:
        raise InputError(f"{path}: holds vectors of {', '.join(first.arrays)}; say which by --vector_set")
    return given


def _first_set(expression: str) -> str:
    """The first set of a sum."""
    return expression.split("+")[0].rpartition("*")[2]


def _folder(target: CheckpointRef, hub: Hub) -> Path:
    """Where the target's files lie; from the hub after its config was looked at."""
    if not isinstance(target.source, HubSource):
        return Path(str(target.source))
    listing = hub.look(target.source.repo, target.source.revision)
    small = hub.fetch_small(listing)
    read_model_config(read_config_json(small), str(small / "config.json"))
    hub.check_space([listing])
    return hub.fetch(listing, target.name)
