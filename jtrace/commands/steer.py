"""Steer a model and measure what it does: vectors × layers × strengths × tasks.

    jtrace steer --target=runs/models/smollm2 --vectors=runs/smollm2/vectors/smollm2.safetensors \\
        --vector_set=stereoset --tasks=stereoset,perplexity --layers=15 --strengths=-2,-1,0,1,2 \\
        --data_dir=data --out=runs/smollm2

A vector that jtrace trace made of a checkpoint is added, times each strength, to the output of each layer of the
target; the tasks are asked under each. Takes a few minutes for a model of 135 M parameters and 1,000 prompts on two CPU
cores. It ends with a table of what each vector did at its best strength, or under --protocol=sound at the one that was
chosen on a part of the rows and is reported on the others, beside a random direction of equal norm (--random). Tables,
completions and figures are in the run directory, jtrace report tells of them. A rerun does only what is missing.
"""

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from absl import flags

from jtrace.checkpoints.content import read_content
from jtrace.checkpoints.local import local_folder
from jtrace.checkpoints.refs import CheckpointRef, parse_one
from jtrace.commands import cli
from jtrace.commands.flags import (
    parse_layer_groups,
    parse_protocols,
    parse_strengths,
    parse_vector_layers,
)
from jtrace.commands.target import load_target
from jtrace.data.loading import read_all
from jtrace.data.tokenizer import SpecialTokens
from jtrace.errors import InputError
from jtrace.evaluation.registry import HARNESS_TASK, TASKS, Judges, TaskSources, assumed_meanings, read_tasks
from jtrace.hub.client import Hub, hub_in
from jtrace.inference.language_model import LanguageModel
from jtrace.models.intervention import POSITIONS, Positions
from jtrace.report.figures.draw import draw_steered
from jtrace.report.summary import as_text, steering_effects
from jtrace.runs.names import first_set
from jtrace.runs.open_run import check_steering_out, open_steering
from jtrace.runs.run_directory import RunDirectory
from jtrace.runtime.devices import computing_dtype
from jtrace.runtime.paths import whole
from jtrace.steering.conditions import SteerConfig
from jtrace.steering.experiment import check_steering, steer
from jtrace.steering.target_vectors import SCALES, Scale, VectorChoice
from jtrace.steering.vector import OPERATORS, Operator, SteeringVector, no_vector


@dataclass(frozen=True)
class SteerCommand:
    """A steering command, as its flags say it.

    Attributes:
        out: the run directory.
        tasks: names.
        tokenizer: folder; None for the target's own.
    """

    out: Path
    target: CheckpointRef
    vectors: VectorChoice
    tasks: tuple[str, ...]
    sources: TaskSources
    judges: Judges
    config: SteerConfig
    dtype: str
    tokenizer: Path | None = None
    hub: Hub = field(default_factory=Hub)


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
    "lie in folders of their own (RUN/vectors/whitened/…), see --vector_kinds of jtrace trace. Files of other tools "
    "are read too: .gguf (llama.cpp, repeng), .pt (lm-eval), .npz, .safetensors.",
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
TASK_NAMES = flags.DEFINE_list(
    "tasks", None, f"What is asked: {', '.join((*TASKS, HARNESS_TASK))}.", required=True, flag_values=FLAGS
)
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
    "shots",
    None,
    "Worked examples of capability tasks and of lm-eval's; by default 5 for mmlu.",
    lower_bound=0,
    flag_values=FLAGS,
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
    return steer_into(_command())


def _command() -> SteerCommand:
    """The flags' values, checked."""
    protocols = parse_protocols(PROTOCOL.value)
    data_dir, cache_dir, toxicity, truth, info, tokenizer = (
        Path(flag.value) if flag.value else None
        for flag in (DATA_DIR, CACHE_DIR, TOXICITY_JUDGE, TRUTH_JUDGE, INFO_JUDGE, TOKENIZER)
    )
    hub = hub_in(cache_dir)
    target = parse_one(TARGET.value, hub.revisions, "--target")
    seeds = RANDOM.value if RANDOM.value is not None else int("sound" in protocols)
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
    sources = TaskSources(
        statements=read_all(statements, data_dir, cache_dir) if statements else (),
        text=TEXT.value,
        data_dir=data_dir,
        cache_dir=cache_dir,
        limit=LIMIT.value,
        shots=SHOTS.value,
        seed=SEED.value,
    )
    vectors = VectorChoice(
        tuple(whole(VECTORS.value)),
        tuple(VECTOR_SET.value),
        TOWARDS_GOOD.value,
        ANY_FAMILY.value,
        parse_vector_layers(VECTOR_LAYERS.value),
        cast(Scale, VECTOR_SCALE.value),
    )
    return SteerCommand(
        out=Path(OUT.value),
        target=target,
        vectors=vectors,
        tasks=tuple(TASK_NAMES.value),
        sources=sources,
        judges=Judges(toxicity, truth, info),
        config=config,
        dtype=computing_dtype(DTYPE.value),
        tokenizer=tokenizer,
        hub=hub,
    )


def steer_into(command: SteerCommand) -> int:
    """Steer a target and leave what it did in a run directory.

    Returns:
        The exit status: 0.

    Raises:
        InputError: something is wrong with what was given; completions that were made until then are kept.
    """
    check_steering_out(command.out)
    files = command.vectors.read()
    sets = command.vectors.sets_of(files, command.sources.statements)
    sources = dataclasses.replace(command.sources, vector_sets=tuple(dict.fromkeys(map(first_set, sets))))
    tasks = read_tasks(command.tasks, command.config.protocols, sources, command.judges)
    for warning in assumed_meanings(command.tasks, sources):
        print(f"warning: {warning}", file=sys.stderr)
    model, weights = _load_target(command)
    config = command.config
    if files:
        vectors = command.vectors.in_target(model, files, sets, config.random)
    else:
        # Without steering all layers are one.
        config = dataclasses.replace(config, layers=((0,),))
        vectors = [_no_vector(model, config)]
    check_steering(model, vectors, tasks, config)
    run = open_steering(command.out, command.target.name)
    steer(run.path / "steering", model, vectors, tasks, config, weights)
    _conclude(run, model.name, vectors)
    return 0


def _load_target(command: SteerCommand) -> tuple[LanguageModel, str]:
    """The model, and the key of its content."""
    folder, tokenizer = local_folder(command.target, command.hub), command.tokenizer
    content = read_content(folder, tokenizer)
    special_tokens = command.config.special_tokens
    return load_target(folder, command.target.name, command.dtype, tokenizer, special_tokens), content.key


def _no_vector(model: LanguageModel, config: SteerConfig) -> SteeringVector:
    if any(config.strengths):
        raise InputError(
            "--vectors names nothing; give files of RUN/vectors, or --strengths=0 to ask the model as it is"
        )
    return no_vector(model.config.depth, model.config.width)


def _conclude(run: RunDirectory, target: str, vectors: Sequence[SteeringVector]) -> None:
    """Print what these vectors did to the target, and where tables, completions and figures are."""
    rows = run.read_steering()
    of_these = rows["vector_from"].isin([vector.source for vector in vectors]) & (rows["target"] == target)
    table = steering_effects(rows[of_these])
    if len(table):
        print(f"\n{as_text(table)}")
    print(f"\ntables       {run.path / 'steering'}\ncompletions  {run.path / 'completions'}")
    if figures := draw_steered(run, run.read_metrics()):
        print("figures      " + "\n             ".join(str(figure.path) for figure in figures))
    print(f"report       jtrace report --run={run.path}", flush=True)
