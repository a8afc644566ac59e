"""The folder of a checkpoint's files on this machine."""

from pathlib import Path

from jtrace.checkpoints.load import read_config_json
from jtrace.checkpoints.refs import CheckpointRef, HubSource
from jtrace.hub.client import Hub
from jtrace.models.families import read_model_config


def local_folder(ref: CheckpointRef, hub: Hub) -> Path:
    """Returns the folder of a checkpoint; one of the hub is downloaded once its config was looked at.

    Raises:
        InputError: the hub cannot be reached, the model is not implemented, or the disk cannot hold it.
    """
    if not isinstance(ref.source, HubSource):
        return Path(str(ref.source))
    listing = hub.look(ref.source.repo, ref.source.revision)
    small = hub.fetch_small(listing)
    read_model_config(read_config_json(small), str(small / "config.json"))
    hub.check_space([listing])
    return hub.fetch(listing, ref.name)
