"""Orbax checkpoints: a folder with the config.json, the tokeniser's files and `params/`, the stacked Flax params."""

import json
import logging
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Event
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint.experimental.v1 as ocp
from flax.traverse_util import flatten_dict
from jax.typing import DTypeLike

from jtrace.checkpoints.load import load_params, read_config_json, stage_params, staging_device
from jtrace.errors import InputError
from jtrace.hub.files import TOKENIZER_FILES
from jtrace.models.config import DecoderConfig
from jtrace.models.decoder import Params, abstract_params
from jtrace.models.families import read_model_config
from jtrace.models.sharding import Layout, Param, Staged, check_fits, pieces
from jtrace.runtime.atomic import atomic_folder

PARAMS = "params"
LONGEST_WAIT = 10.0  # seconds, for one of Orbax's threads to give up
OS_ERROR = re.compile(r"os_error_code='(\d+)'")


def is_store(folder: Path) -> bool:
    """Whether a folder is an Orbax checkpoint rather than Hugging Face weight files."""
    return (folder / PARAMS).is_dir()


def read_checkpoint(
    folder: Path, dtype: DTypeLike, depth: int | None = None, layout: Layout | None = None
) -> tuple[DecoderConfig, Params]:
    """The params of a Hugging Face folder or of an Orbax checkpoint; see `load_params`."""
    return (load_store if is_store(folder) else load_params)(folder, dtype, depth, layout)


def stage_checkpoint(
    folder: Path,
    dtype: DTypeLike,
    depth: int | None = None,
    layout: Layout | None = None,
    stop: Event | None = None,
) -> Staged:
    """The params of a Hugging Face folder or of an Orbax checkpoint on the host (`staging_device`), to be placed later.

    For a thread that reads ahead: it touches no other device and waits for no other process. See `stage_params`.

    Args:
        stop: ends the reading of a Hugging Face folder, by `StoppedError`, once it is set.
    """
    if is_store(folder):
        return stage_store(folder, dtype, depth, layout, staging_device())
    return stage_params(folder, dtype, depth, layout, staging_device(), stop)


def save_store(out: Path, values: dict[str, Any], params: Params, tokenizer: Path | None = None) -> None:
    """Write an Orbax checkpoint, whole or not at all.

    Args:
        out: a new or empty folder.
        values: the config.json that describes the params.
        tokenizer: a folder whose tokeniser files are copied beside them.

    Raises:
        InputError: the folder holds something, or cannot be written.
    """
    with atomic_folder(out) as aside:
        copy_companions(aside, values, tokenizer)
        save_arrays(aside / PARAMS, params)


def save_arrays(folder: Path, tree: Any) -> None:
    """Write nested dicts of arrays as an Orbax checkpoint, at a new folder.

    Raises:
        OSError: whatever stood in the way; the disk, as a rule.
    """
    try:
        with _told_once():
            ocp.save(folder.resolve(), tree)
    except OSError:
        raise
    except Exception as error:  # Orbax raises whatever its storage raises
        reason = " ".join(str(error).split())
        code = OS_ERROR.search(reason)
        raise OSError(os.strerror(int(code[1])) if code else reason[:300] or type(error).__name__) from None


def load_arrays(folder: Path, wanted: Any, truncate: bool = False) -> Any:
    """Read what `save_arrays` wrote, without waiting for other processes.

    Args:
        wanted: `jax.ShapeDtypeStruct` leaves with shardings, of devices of this process.
        truncate: read only the beginning of arrays that are longer than wanted.

    Raises:
        InputError: damaged, or other names, shapes or dtypes.
    """
    context = _alone()
    context.array.loading.enable_padding_and_truncation = truncate
    try:
        with context:
            return ocp.load(folder.resolve(), wanted)
    except Exception as error:  # Orbax raises whatever its storage raises
        raise _unreadable(folder, error) from None


def load_store(
    folder: Path, dtype: DTypeLike, depth: int | None = None, layout: Layout | None = None
) -> tuple[DecoderConfig, Params]:
    """Read an Orbax checkpoint onto the device or the mesh; arguments, result and strictness as `load_params`."""
    # The pieces of a mesh are cut out of whole params, for which the host has more room than a device.
    staged = stage_store(folder, dtype, depth, layout, None if layout is None else staging_device())
    return staged.config, staged.placed()


def stage_store(
    folder: Path,
    dtype: DTypeLike,
    depth: int | None = None,
    layout: Layout | None = None,
    stage: jax.Device | None = None,
) -> Staged:
    """Read and check an Orbax checkpoint; arguments, result and strictness as `stage_params`.

    Every process reads all of it, whatever its devices hold: the checkpoints of jtrace's own pre-training are small.
    """
    full, _ = read_model_config(read_config_json(folder), str(folder / "config.json"))
    if layout is not None:
        check_fits(layout, full, str(folder))
    with nullcontext() if stage is None else jax.default_device(stage):
        config = full.truncated(min(depth or full.depth, full.depth))
        found = {name: leaf.shape for name, leaf in _stored(folder).items()}
        expected = {name: leaf.shape for name, leaf in _leaves(abstract_params(full, dtype)).items()}
        for name in sorted(expected.keys() | found.keys()):
            if expected.get(name) != found.get(name):
                raise InputError(
                    f"{folder}: param '{name}' has shape {_shape(found.get(name))}; "
                    f"config.json asks for {_shape(expected.get(name))}"
                )
        device = jax.sharding.SingleDeviceSharding(stage or jax.local_devices()[0])
        wanted = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), abstract_params(config, dtype)
        )
        # Only the wanted layers are read.
        whole = _leaves(load_arrays(folder / PARAMS, wanted, truncate=True))
        finite = jax.device_get({name: jnp.isfinite(leaf).all() for name, leaf in whole.items()})
        bad = [name for name, flag in finite.items() if not flag]
        if bad:
            raise InputError(
                f"{folder}: NaN or infinite values as {jnp.dtype(dtype).name} in param '{bad[0]}'; not traceable"
            )
        params = {}
        while whole:
            name, leaf = whole.popitem()
            parts = pieces(layout, name, leaf.shape)
            cut = [leaf if part.shape == leaf.shape else jax.block_until_ready(leaf[part.index]) for part in parts]
            params[name] = Param(leaf.shape, parts, cut)
    return Staged(config, layout, params)


def stored_dtype(folder: Path) -> np.dtype:
    """The dtype of an Orbax checkpoint's params; float32 if they differ.

    Raises:
        InputError: it cannot be read.
    """
    kinds = {np.dtype(leaf.dtype) for leaf in _stored(folder).values()}
    return kinds.pop() if len(kinds) == 1 else np.dtype(np.float32)


def copy_companions(out: Path, values: dict[str, Any], tokenizer: Path | None) -> None:
    """What stands beside the weights: config.json, the tokeniser's files and how to generate."""
    (out / "config.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    for name in (*TOKENIZER_FILES, "generation_config.json"):
        if tokenizer is not None and (tokenizer / name).is_file():
            shutil.copyfile(tokenizer / name, out / name)


def _alone() -> ocp.Context:
    """For what a process reads by itself: Orbax would wait for all others, which may be reading something else."""
    context, me = ocp.Context(), jax.process_index()
    context.multiprocessing.primary_host, context.multiprocessing.active_processes = me, {me}
    return context


@contextmanager
def _told_once() -> Iterator[None]:
    """Orbax logs a traceback from each of its threads for a fault that it raises as well.

    It raises the first one; the others are waited for, so that none still writes, or complains, afterwards.
    """
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    except BaseException:
        for thread in threading.enumerate():
            if type(thread).__module__.startswith("orbax."):
                thread.join(LONGEST_WAIT)
        raise
    finally:
        logger.setLevel(level)


def _stored(folder: Path) -> dict[str, Any]:
    """Shape and dtype of every param of an Orbax checkpoint, by name."""
    try:
        with _alone():
            return _leaves(ocp.metadata(folder.resolve() / PARAMS).metadata)
    except Exception as error:  # Orbax raises whatever its storage raises
        raise _unreadable(folder / PARAMS, error) from None


def _leaves(tree: Any) -> dict[str, Any]:
    return flatten_dict(tree, sep="/")


def _shape(shape: tuple[int, ...] | None) -> str:
    return "none" if shape is None else str(list(shape))


def _unreadable(folder: Path, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return InputError(f"{folder}: cannot be read as an Orbax checkpoint ({reason}); delete it and make it again")
