"""Prompts, choices and steering of benchmarked models: the same for every contender."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jtrace.benchmark.workload import Workload
from jtrace.data.statements import Statements
from jtrace.data.tokenizer import encode, read_tokenizer
from jtrace.errors import InputError
from jtrace.evaluation.statement_labels import evaluation_rows
from jtrace.inference.score import Pair
from jtrace.models.config import DecoderConfig
from jtrace.models.intervention import Edit
from jtrace.steering.vector import Condition, SteeringVector, edit_of

STRENGTHS = (-2.0, -1.0, 0.0, 1.0, 2.0)
SHOTS, CHOICES = 5, 4
NORM = 15.0  # norm of the vector, a tenth of SmolLM2's residuals: most completions change


def prompts(workload: Workload) -> list[Int[np.ndarray, " T"]]:
    """Returns token ids, int32, of the first evaluation rows of the first set that has any.

    Raises:
        InputError: no set has any, or a row and its completion are longer than the model's context.
    """
    statements, rows = _asked(workload)
    asked = [workload.tokens[statements.name][row] for row in rows]
    _check_length(
        max(map(len, asked)) + workload.setting.new_tokens, statements, workload, " or fewer --max_new_tokens"
    )
    return asked


def choices(workload: Workload) -> list[Pair]:
    """Returns contexts and continuations of questions with 4 choices each after 5 shots, token ids, int32.

    Questions are the rows of `prompts`. Before each stand the set's first rows with their labels, the same for every
    question, as is customary; its choices are the last 1 to 4 tokens of the rows after it.

    Raises:
        InputError: a question is longer than the model's context.
    """
    statements, rows = _asked(workload)
    tokens = workload.tokens[statements.name]
    shots = "".join(
        f"{text}\nAnswer: {label}\n\n" for text, label in zip(statements.texts[:SHOTS], statements.labels, strict=False)
    )
    contexts = encode(read_tokenizer(workload.setting.tokenizer), [shots + statements.texts[row] for row in rows])
    pairs = [
        (context % workload.config.vocab_size, tokens[(row + choice) % len(tokens)][-choice:])
        for row, context in zip(rows, contexts, strict=True)
        for choice in range(1, CHOICES + 1)
    ]
    _check_length(max(len(before) + len(after) for before, after in pairs), statements, workload)
    return pairs


def middle(config: DecoderConfig) -> int:
    """Returns the layer whose output is steered."""
    return config.depth // 2


def pushes(config: DecoderConfig) -> Float[np.ndarray, "C D"]:
    """Returns the vectors that are added under each strength, float32: multiples of a random direction."""
    drawn = np.random.default_rng(0).normal(size=config.width)
    return (np.array(STRENGTHS)[:, None] * (NORM * drawn / np.linalg.norm(drawn))).astype(np.float32)


def edit(config: DecoderConfig) -> tuple[Edit, list[int]]:
    """Returns the same vectors as the decoder's edit, and the condition of each strength."""
    values = np.zeros((config.depth, config.width), np.float32)
    values[middle(config)] = pushes(config)[STRENGTHS.index(1.0)]
    vector = SteeringVector(values, (middle(config),), source="random", dataset="random", seed=0)
    steered = [strength for strength in STRENGTHS if strength != 0]
    made = edit_of(vector, [Condition((middle(config),), strength) for strength in steered])
    # Arrays on the host would be copied to the device in every call.
    on_device = jax.tree.map(jnp.asarray, made)
    return on_device, [1 + steered.index(strength) if strength != 0 else 0 for strength in STRENGTHS]


def _asked(workload: Workload) -> tuple[Statements, list[int]]:
    for statements in workload.sets.values():
        if len(rows := evaluation_rows(statements)):  # sets whose rows all go into vectors have none
            return statements, rows[: workload.setting.prompts].tolist()
    names = ", ".join(workload.sets)
    raise InputError(f"--statements={names}: no set has rows to be asked; add one that no vector is wholly made of")


def _check_length(longest: int, statements: Statements, workload: Workload, fewer: str = "") -> None:
    if longest > workload.config.context:
        raise InputError(
            f"{statements.source}: a prompt makes {longest} tokens, {workload.setting.checkpoint} takes "
            f"{workload.config.context}; give shorter statements{fewer}"
        )
