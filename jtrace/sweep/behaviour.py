"""Answers of a traced checkpoint as it is, without steering, so that probes and behaviour can be compared."""

from collections.abc import Sequence

from jtrace.checkpoints.refs import CheckpointRef
from jtrace.evaluation.task import Task
from jtrace.inference.language_model import LanguageModel
from jtrace.probing.protocols import Protocol
from jtrace.runs.run_directory import RunDirectory
from jtrace.runs.steering_files import SteeringTable
from jtrace.runtime.atomic import cannot_write
from jtrace.steering.conditions import SteerConfig
from jtrace.steering.experiment import steer
from jtrace.steering.table import Series, Target
from jtrace.steering.vector import no_vector
from jtrace.sweep.config import SweepConfig


def ask_as_it_is(run: RunDirectory, model: LanguageModel, tasks: Sequence[Task], config: SweepConfig, key: str) -> None:
    """Write the answers of a checkpoint without steering into RUN/steering.

    Args:
        key: of the checkpoint's content.
    """
    folder = run.path / "steering"
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from None
    vector = no_vector(model.config.depth, model.config.width)
    steer(folder, model, [vector], tasks, _as_it_is(config), key, quiet=True)


def behaviour_protocols(config: SweepConfig) -> tuple[Protocol, ...]:
    """Protocols of the questions: likelihood as well, as early answers that are generated may not be readable."""
    return tuple(dict.fromkeys((*config.protocols, "sound")))


def _as_it_is(config: SweepConfig) -> SteerConfig:
    return SteerConfig(
        strengths=(0.0,), layers=((0,),), protocols=behaviour_protocols(config), special_tokens=config.special_tokens
    )


def behaviour_unit(run: RunDirectory, ref: CheckpointRef, task: Task, config: SweepConfig, key: str) -> SteeringTable:
    """Files of the answers of a checkpoint to a task."""
    series = Series(Target(ref.name, config.dtype, key), no_vector(1, 1), "", task, _as_it_is(config))
    return series.files(run.path / "steering")
