"""The grammar of checkpoint names: a closed one, so that a name gives its own step or none at all."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from fractions import Fraction

UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
LARGEST = 2**63 - 1

# step300, step-1k, ckpt_010, checkpoint-500, global_step300, iter_0000100, the ba500 of ep0-ba500, epoch=0-step=500;
# anything before it, such as a model's name or a stage, ends in a separator.
STEP = re.compile(
    r"(?:^|(?<=[-_=.]))(?:global_?)?(?:step|ckpt|checkpoint|iter|ba)[-_=]?(\d{1,18}(?:\.\d+)?)([kmb]?)(?![^-_.])",
    re.I | re.A,
)
# Endings that may follow: tokens seen or a size (-tokens4B, -token-2T, -105b), the format of the weights, and at last
# the seed of one of several runs, as DataDecide names it (-seed-default, -seed-small-aux-2).
AFTER = re.compile(
    r"(?:[-_.](?:(?:tokens?[-_]?)?\d+(?:\.\d+)?[kmbt]|hf|unsharded|merged|ema|safetensors|orbax"
    r"|fp16|fp32|bf16|float16|float32|bfloat16))*"
    r"(?P<seed>-seed-(?:default|\d{1,18}|(?:small|large)-aux-\d{1,18}))?",
    re.I | re.A,
)
TOKENS = re.compile(r"tokens?[-_]?(\d+(?:\.\d+)?)([MBT])(?![^-_.])", re.I | re.A)
EPOCH = re.compile(r"(?:^|(?<=[-_.]))ep(?:och)?[-_=]?\d+[-_]", re.I | re.A)
LATER_STAGE = re.compile(r"(?:^|[-_])stage(?!1\b)\d", re.A)
LIKE_STEP = re.compile(r"(?:step|ckpt|checkpoint|iter)[-_=]?\d", re.I | re.A)
# Folders that Orbax writes to until a save is complete.
UNFINISHED = re.compile(r".*\.orbax-checkpoint-tmp(?:-\d+)?", re.A)


@dataclass(frozen=True)
class StepName:
    """The parts of a name like `stage1-step1000-tokens2B`.

    Attributes:
        step: step of pre-training; a unit after the number, as in `1k`, means thousands, millions or billions.
        tokens: tokens seen by then, over all stages; None where the name does not say.
        before: beginning of the name, without epochs, and its seed: others are other models, runs or stages.
    """

    step: int
    tokens: int | None
    before: str


def read_step(name: str) -> StepName | None:
    """Reads the step in a name; None for a name without a step, or with a number in any other form."""
    matches = list(STEP.finditer(name))
    if len(matches) != 1 or not (after := AFTER.fullmatch(name, matches[0].end())):
        return None
    number, unit = matches[0].groups()
    step = Fraction(number) * UNITS[unit.upper()]
    if step.denominator != 1 or ("." in number and not unit) or step > LARGEST:
        return None
    tokens = TOKENS.search(name, matches[0].end())
    # A later stage's name gives the tokens of that stage alone.
    whole = tokens is not None and not LATER_STAGE.search(name)
    count = int(Fraction(tokens[1]) * UNITS[tokens[2].upper()]) if tokens and whole else None
    return StepName(int(step), count, EPOCH.sub("", name[: matches[0].start()]) + (after["seed"] or ""))


def read_folder_step(name: str) -> StepName | None:
    """Reads the step in a local folder's name as `read_step` does; the name may be the number alone."""
    if name.isascii() and name.isdecimal() and len(name) <= 18:
        return StepName(int(name), None, "")
    return read_step(name)


def resembles_step(name: str) -> bool:
    """Returns whether a name holds a step's word and a number, as a name outside the grammar may."""
    return LIKE_STEP.search(name) is not None


def is_unfinished(name: str) -> bool:
    """Returns whether a folder has the name that Orbax gives to a save until it is complete."""
    return UNFINISHED.fullmatch(name) is not None


def in_order(names: Collection[str]) -> list[str]:
    """Sorts names of checkpoints, or of their files, by model and then by step; numbers in others count as numbers."""
    return sorted(names, key=_order)


def natural(name: str) -> list[tuple[str, int]]:
    """Returns a key that sorts numbers within names as numbers: `v9` comes before `v10`."""
    return [("", int(part)) if part.isdecimal() else (part, 0) for part in re.split(r"(\d+)", name)]


def _order(name: str) -> tuple[list[tuple[str, int]], bool, int, list[tuple[str, int]]]:
    model, at, revision = name.rpartition("@")
    parsed = read_folder_step(revision)
    if parsed is None:
        return natural(model + at), True, 0, natural(revision)
    return natural(model + at + parsed.before), False, parsed.step, natural(revision)
