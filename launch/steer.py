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

from pathlib import Path
from typing import cast

import jax
from absl import flags

from jtrace.checkpoints.refs import parse_specs
from jtrace.commands import cli
from jtrace.commands.steer import SCALES, Scale, VectorChoice, steer_into
from jtrace.data.loading import read_all
from jtrace.data.tokenizer import SpecialTokens
from jtrace.errors import InputError
from jtrace.evaluation.registry import TASKS, Judges, TaskSources
from jtrace.hub.client import Hub
from jtrace.models.intervention import POSITIONS, Positions
from jtrace.runtime.paths import whole
from jtrace.steering.experiment import SteerConfig
from jtrace.steering.vector import OPERATORS, Operator

PROTOCOLS = ("paper", "sound")
TARGET = flags.DEFINE_string(
    "target", None, "The model to steer: a folder, a hub revision, a step of a pre-training run.", required=True
)
VECTORS = flags.DEFINE_list(
    "vectors",
    [],
    "Files of RUN/vectors, or globs of them, separated by commas; each is a source checkpoint. Other kinds of vectors "
    "lie in folders of their own (RUN/vectors/whitened/…), see --vector_kinds of launch/trace.py.",
)
VECTOR_SET = flags.DEFINE_list(
    "vector_set",
    [],
    "Whose vectors: statement sets, separated by commas, or sums as stereoset+-0.5*toxigen. May be left out where a "
    "file holds one, or where --statements says it.",
)
VECTOR_LAYERS = flags.DEFINE_string(
    "vector_layers",
    "",
    "Which layers the rows of --vectors are of, where their files do not say and hold no row for each layer: numbers "
    "and ranges in the rows' order, and embedding for a row of no layer, as 15, or embedding,0-29 for hidden states.",
)
VECTOR_SCALE = flags.DEFINE_enum(
    "vector_scale",
    "std",
    SCALES,
    "What strength 1 adds: std (as published, as much as the standard deviation of the statements' projections on the "
    "vector) or plain (the plain difference of class means, as other tools steer with; for vectors of kind mass_mean).",
)
STATEMENTS = flags.DEFINE_list(
    "statements",
    [],
    "Files of statement sets that tasks of the same name ask about; else they are in --data_dir or on the hub.",
)
TASK_NAMES = flags.DEFINE_list("tasks", None, f"What is asked: {', '.join(TASKS)}.", required=True)
LAYERS = flags.DEFINE_string(
    "layers",
    "all",
    "Layers to steer, one after the other: all, or numbers and ranges as 0,6,12-18; 10+15 steers both at once.",
)
STRENGTHS = flags.DEFINE_list(
    "strengths",
    ["-2", "-1", "0", "1", "2"],
    "What the vector is multiplied by; it points to label 1. Write --strengths=-1,0,1. Strength 1 is one standard "
    "deviation of the statements' projections on the vector, not the plain difference of means, see --vector_scale.",
)
OUT = flags.DEFINE_string("out", None, "Run directory: one that was traced, or a new one.", required=True)
PROTOCOL = flags.DEFINE_list(
    "protocol",
    ["paper"],
    "How to measure: paper (as published, on all evaluation rows), sound (by likelihood; layer and strength are chosen "
    "on a part of the rows), or both.",
)
LIMIT = flags.DEFINE_integer("limit", None, "Only the first so many evaluation rows of each task.", lower_bound=1)
POSITIONS_ = flags.DEFINE_enum(
    "positions",
    "last",
    POSITIONS,
    "Where it is added: last (a prompt's last position and every generated one, as published), all, or generated.",
)
OPERATOR = flags.DEFINE_enum(
    "operator",
    "add",
    OPERATORS,
    "What is done: add (as published), add_keep_norm, project_out (1 removes the direction), clamp (the projection "
    "becomes strength times the vector).",
)
TOWARDS_GOOD = flags.DEFINE_boolean(
    "towards_good", False, "Turn vectors so that positive strengths are the trustworthy side, whatever label 1 means."
)
RANDOM = flags.DEFINE_integer(
    "random",
    None,
    "How many random directions of equal norm to run beside each vector; by default one under protocol sound.",
    lower_bound=0,
)
ANY_FAMILY = flags.DEFINE_boolean(
    "any_family", False, "Take vectors of another model family or depth, if their width is the target's."
)
TEXT = flags.DEFINE_string(
    "text",
    None,
    "For perplexity: a text file, wikitext, or world[:seed=…]; by default the rows that the vector's set leaves to "
    "evaluate on. A file and wikitext are one document each, scored whole in windows of up to 1,024 tokens that move "
    "by half, so that a token is predicted after at least half a window.",
)
SHOTS = flags.DEFINE_integer(
    "shots", None, "Worked examples of capability tasks; by default 5 for mmlu.", lower_bound=0
)
TOXICITY_JUDGE = flags.DEFINE_string(
    "toxicity_judge", None, "Folder of the classifier that judges toxigen's completions."
)
TRUTH_JUDGE = flags.DEFINE_string("truth_judge", None, "Folder of the model that says whether an answer is true.")
INFO_JUDGE = flags.DEFINE_string("info_judge", None, "Folder of the model that says whether an answer informs.")
TEMPERATURE = flags.DEFINE_float("temperature", 0.0, "Of completions; 0 is greedy.", lower_bound=0.0)
SEED = flags.DEFINE_integer("seed", 0, "Of guesses, sampling, intervals and controls.", lower_bound=0)
DTYPE = flags.DEFINE_enum(
    "dtype",
    "auto",
    ["auto", "float32", "bfloat16"],
    "Of params and forward; auto is bfloat16 on GPU and TPU, float32 on CPU.",
)
DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of statement sets and task files; else they are from the hub.")
TOKENIZER = flags.DEFINE_string("tokenizer", None, "Folder of the tokeniser; by default the target's own.")
SPECIAL_TOKENS = flags.DEFINE_enum(
    "special_tokens",
    "parse",
    ["parse", "text"],
    "What special tokens that are written out in a text, as </s>, are read as: parse (themselves), or text.",
)
CACHE_DIR = flags.DEFINE_string("cache_dir", None, "Where downloads are kept, laid out as HF_HOME.")


def main() -> int:
    cli.check_device()
    unknown = [protocol for protocol in PROTOCOL.value if protocol not in PROTOCOLS]
    if unknown or not PROTOCOL.value:
        raise InputError(f"--protocol={','.join(PROTOCOL.value)}: known are {', '.join(PROTOCOLS)}")
    data_dir, cache_dir, toxicity, truth, info, tokenizer = (
        Path(flag.value) if flag.value else None
        for flag in (DATA_DIR, CACHE_DIR, TOXICITY_JUDGE, TRUTH_JUDGE, INFO_JUDGE, TOKENIZER)
    )
    hub = Hub(cache_dir / "hub" if cache_dir else None)
    targets = parse_specs([TARGET.value], hub.revisions)
    if len(targets) != 1:
        raise InputError(f"--target={TARGET.value} names {len(targets)} checkpoints; name one")
    seeds = RANDOM.value if RANDOM.value is not None else int("sound" in PROTOCOL.value)
    config = SteerConfig(
        strengths=cli.parse_strengths(STRENGTHS.value),
        layers=cli.parse_layer_groups(LAYERS.value),
        protocols=tuple(dict.fromkeys(PROTOCOL.value)),
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
    dtype = DTYPE.value
    if dtype == "auto":
        dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return steer_into(
        Path(OUT.value),
        targets[0],
        VectorChoice(
            tuple(whole(VECTORS.value)),
            tuple(VECTOR_SET.value),
            TOWARDS_GOOD.value,
            ANY_FAMILY.value,
            cli.parse_vector_layers(VECTOR_LAYERS.value),
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


if __name__ == "__main__":
    cli.run(main)
