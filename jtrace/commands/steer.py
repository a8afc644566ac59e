"""A whole steering command: target and vectors read, tasks made, everything asked, tables, figures and a summary."""

import dataclasses
import glob
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax.numpy as jnp

from jtrace.checkpoints.content import read_content
from jtrace.checkpoints.load import read_config_json
from jtrace.checkpoints.names import in_order
from jtrace.checkpoints.refs import CheckpointRef, HubSource
from jtrace.data.tokenizer import class_disagreement
from jtrace.errors import InputError
from jtrace.evaluation.registry import Judges, TaskSources, assumed_meanings, read_tasks
from jtrace.hub.client import Hub
from jtrace.inference.language_model import load_language_model
from jtrace.models.families import read_model_config
from jtrace.probing.vectors import Vectors, read_vectors
from jtrace.report.figures.draw import draw_all
from jtrace.report.summary import as_text, steering_effects
from jtrace.runs.record import check_steering_out, open_steering
from jtrace.runtime.paths import matching
from jtrace.steering.experiment import SteerConfig, check_steering, steer, vectors_for, with_controls
from jtrace.steering.vector import combined, no_vector

STEERED = ("comparison", "steering", "agreement")
Scale = Literal["std", "plain"]
SCALES: tuple[Scale, ...] = ("std", "plain")


@dataclass(frozen=True)
class VectorChoice:
    """Which vectors a target is steered with.

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
