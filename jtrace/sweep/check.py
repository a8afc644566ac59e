"""A checkpoint before its weights move: whether it is traced already, and whether its small files are in order."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jtrace.checkpoints.content import Content, holds_weights, read_content
from jtrace.checkpoints.load import read_config_json
from jtrace.checkpoints.orbax import check_stored
from jtrace.checkpoints.refs import CheckpointRef, HubSource
from jtrace.checkpoints.suites import suites_at
from jtrace.data.statements import Statements
from jtrace.data.tokenizer import has_tokenizer
from jtrace.errors import InputError
from jtrace.evaluation.task import Task
from jtrace.hub.client import Hub
from jtrace.hub.files import Listing
from jtrace.models.config import DecoderConfig
from jtrace.models.families import read_model_config
from jtrace.runs.run_directory import RunDirectory
from jtrace.sweep.behaviour import behaviour_unit
from jtrace.sweep.config import SweepConfig


@dataclass(frozen=True)
class Checked:
    """A checkpoint whose small files are in order.

    Attributes:
        folder: of config.json; of a local checkpoint or an Orbax one, of the weights too.
        tokenizer: folder of the tokeniser.
        architecture: of the whole model.
        layers: to report.
        read: the architecture of the blocks that are read.
        content: of the folder, once its weights are there.
    """

    ref: CheckpointRef
    folder: Path
    tokenizer: Path
    architecture: DecoderConfig
    layers: tuple[int, ...]
    read: DecoderConfig
    commit: str | None = None
    content: Content | None = None

    def with_content(self) -> "Checked":
        """The same, its content known; to be asked for before the weights are read.

        Raises:
            InputError: there are no weights, or they are damaged.
        """
        return dataclasses.replace(self, content=read_content(self.folder, self.tokenizer))


def is_traced(
    ref: CheckpointRef,
    sets: Sequence[Statements],
    config: SweepConfig,
    run: RunDirectory,
    tasks: Sequence[Task] = (),
) -> bool:
    """Tell whether the run holds all that this configuration writes of a checkpoint, as its files are now.

    Raises:
        InputError: it holds another checkpoint of the same name.
    """
    origin = run.origin(ref)
    if origin is None or changes(ref, config, run):
        return False
    asked = [behaviour_unit(run, ref, task, config, origin.key) for task in tasks]
    return all(unit.table_path.is_file() for unit in asked) and run.is_done(
        ref, [s.name for s in sets] if config.keep_activations else (), config.vector_kinds, probes=config.is_sound
    )


def changes(ref: CheckpointRef, config: SweepConfig, run: RunDirectory) -> tuple[str, ...]:
    """Name the parts of a traced checkpoint's folder (`weights`, `config`, `tokenizer`) that are not what was traced.

    A folder that was moved or copied has not changed. Of a hub revision nothing is looked at, nor where the weights are
    gone or the table is of a release that kept no content.

    Raises:
        InputError: what was traced is another checkpoint of the same name.
    """
    origin = run.origin(ref)
    if origin is None:
        return ()
    same, changed = str(ref.source) == origin.source, tuple[str, ...]()
    if origin.content is not None and isinstance(ref.source, Path) and holds_weights(ref.source):
        try:
            now = read_content(ref.source, config.tokenizer, origin.content if same else None)
        except InputError:
            return ("weights",)
        changed = now.differences(origin.content)
        same = same or not changed
    if not same:
        raise InputError(
            f"{run.table_path(ref)}: made from {origin.source}, not from {ref.source}; rename the folder or take "
            "another --out"
        )
    return changed


def check_checkpoint(
    ref: CheckpointRef, listing: Listing | None, config: SweepConfig, hub: Hub, tasks: Sequence[Task] = ()
) -> Checked:
    """Check config and tokeniser, before gigabytes of weights move.

    Args:
        listing: of a hub checkpoint, whose small files are fetched.
        tasks: that it is asked as well; all of its layers are read then.

    Raises:
        InputError: they are at fault, or do not fit the wanted layers.
    """
    folder = hub.fetch_small(listing) if listing else Path(str(ref.source))
    full, tokenizer = read_architecture(folder, ref, config, hub)
    if listing is None:
        check_stored(folder, *read_model_config(read_config_json(folder), str(folder / "config.json")))
    layers = wanted_layers(config.layers, full.depth, ref)
    read = full.truncated(full.depth if tasks else max(layers) + 1)
    commit = listing.commit if listing else None
    return Checked(ref, folder, tokenizer, full, tuple(layers), read, commit)


def read_architecture(folder: Path, ref: CheckpointRef, config: SweepConfig, hub: Hub) -> tuple[DecoderConfig, Path]:
    """Read a checkpoint's architecture, and find its tokeniser: as configured, in its folder, or where its suite says.

    Raises:
        InputError: config.json is missing, damaged or of a model that is not implemented.
    """
    architecture, _ = read_model_config(read_config_json(folder), str(folder / "config.json"))
    suites = suites_at(ref.source.repo) if isinstance(ref.source, HubSource) else ()
    if config.tokenizer is not None or has_tokenizer(folder) or not suites or suites[0].tokenizer is None:
        return architecture, config.tokenizer or folder
    return architecture, hub.fetch_tokenizer(suites[0].tokenizer)


def wanted_layers(layers: tuple[int, ...] | None, depth: int, ref: CheckpointRef) -> list[int]:
    """List the layers to report, in order.

    Raises:
        InputError: one is not of the model.
    """
    wanted = list(range(depth)) if layers is None else sorted(set(layers))
    if not 0 <= wanted[0] <= wanted[-1] < depth:
        raise InputError(f"--layers asks for {wanted[-1]}; {ref.name} has layers 0 to {depth - 1}")
    return wanted
