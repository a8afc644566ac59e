"""What a traced checkpoint says as it is, without steering, so that probes and behaviour can be compared."""

from collections.abc import Sequence

from jtrace.checkpoints.refs import CheckpointRef
from jtrace.evaluation.task import Task
from jtrace.inference.language_model import LanguageModel
from jtrace.runs.run_directory import RunDirectory
from jtrace.runs.steering_files import SteeringTable
from jtrace.runtime.atomic import cannot_write
from jtrace.steering.experiment import SteerConfig, steer, unit_of
from jtrace.steering.vector import no_vector
from jtrace.sweep.config import SweepConfig


def ask_as_it_is(run: RunDirectory, model: LanguageModel, tasks: Sequence[Task], config: SweepConfig, key: str) -> None:
    """The answers of a checkpoint without steering, into RUN/steering, so that probes and behaviour can be compared.

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


def behaviour_protocols(config: SweepConfig) -> tuple[str, ...]:
    """By likelihood as well, however probes are fitted: early answers that are generated may not be readable."""
    return tuple(dict.fromkeys((*config.protocols, "sound")))


def _as_it_is(config: SweepConfig) -> SteerConfig:
    return SteerConfig(
        strengths=(0.0,), layers=((0,),), protocols=behaviour_protocols(config), special_tokens=config.special_tokens
    )


def behaviour_unit(run: RunDirectory, ref: CheckpointRef, task: Task, config: SweepConfig, key: str) -> SteeringTable:
    dtype, how = config.dtype, _as_it_is(config)
    return unit_of(run.path / "steering", ref.name, no_vector(1, 1), "", task, how, dtype, key)
