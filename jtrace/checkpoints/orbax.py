"""Orbax checkpoints: a folder with the config.json, the tokeniser's files and `params/`, the stacked Flax params."""

import json
import logging
import os
import re
import shutil
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Event
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint.experimental.v1 as ocp
from flax.traverse_util import flatten_dict
from jax.typing import DTypeLike

from jtrace.checkpoints.load import check_folder, load_params, read_config_json, stage_params, staging_device
from jtrace.errors import InputError
from jtrace.hub.files import TOKENIZER_FILES
from jtrace.models.config import DecoderConfig
from jtrace.models.decoder import Params, abstract_params
from jtrace.models.families import read_model_config
from jtrace.models.families.family import Family
from jtrace.models.sharding import Layout, Param, Staged, check_fits, pieces
from jtrace.runtime.atomic import atomic_folder

PARAMS = "params"
NO_FILES: Mapping[str, str] = MappingProxyType({})
LONGEST_WAIT = 10.0  # seconds within which Orbax's threads give up
ORBAX = f"{os.sep}orbax{os.sep}"  # in the paths of its modules
STORAGE = (ORBAX, "tensorstore", "ocdbt")  # one of these is in the words or the traceback of a fault of a read
OS_ERROR = re.compile(r"os_error_code='(\d+)'")


def is_store(folder: Path) -> bool:
    """Returns whether a folder is an Orbax checkpoint rather than Hugging Face weight files."""
    return (folder / PARAMS).is_dir()


def read_checkpoint(
    folder: Path, dtype: DTypeLike, depth: int | None = None, layout: Layout | None = None
) -> tuple[DecoderConfig, Params]:
    """Loads the params of a Hugging Face folder or of an Orbax checkpoint; see `load_params`."""
    return (load_store if is_store(folder) else load_params)(folder, dtype, depth, layout)


def stage_checkpoint(
    folder: Path,
    dtype: DTypeLike,
    depth: int | None = None,
    layout: Layout | None = None,
    stop: Event | None = None,
) -> Staged:
    """Reads a Hugging Face folder or an Orbax checkpoint onto the host (`staging_device`), to be placed later.

    It is for a thread that reads ahead: it touches no other device and waits for no other process. See `stage_params`.

    Args:
        stop: event that ends the reading of a Hugging Face folder by `StoppedError`.
    """
    if is_store(folder):
        return stage_store(folder, dtype, depth, layout, staging_device())
    return stage_params(folder, dtype, depth, layout, staging_device(), stop)


def save_store(
    out: Path,
    values: dict[str, Any],
    params: Params,
    tokenizer: Path | None = None,
    beside: Mapping[str, str] = NO_FILES,
) -> None:
    """Writes an Orbax checkpoint, completely or not at all.

    Args:
        out: a new or empty folder.
        values: the config.json that describes the params.
        tokenizer: a folder whose tokeniser files are copied into it.
        beside: texts of further files, by name.

    Raises:
        InputError: the folder holds something, or cannot be written.
    """
    with atomic_folder(out) as aside:
        copy_companions(aside, values, tokenizer, beside)
        save_arrays(aside / PARAMS, params)


def save_arrays(folder: Path, tree: Any) -> None:
    """Writes nested dicts of arrays as an Orbax checkpoint, into a new folder.

    Raises:
        OSError: writing failed, as a rule because of the disk.
    """
    try:
        with _told_once():
            ocp.save(folder.resolve(), tree)
    except OSError:
        raise
    except Exception as error:  # Orbax passes on any error of its storage
        reason = " ".join(str(error).split())
        code = OS_ERROR.search(reason)
        raise OSError(os.strerror(int(code[1])) if code else reason[:300] or type(error).__name__) from None


def load_arrays(folder: Path, wanted: Any, truncate: bool = False) -> Any:
    """Reads what `save_arrays` wrote, without waiting for other processes.

    Args:
        wanted: `jax.ShapeDtypeStruct` leaves with shardings, of devices of this process.
        truncate: read only the beginning of arrays that are longer than wanted.

    Raises:
        InputError: the folder is damaged, or has other names, shapes or dtypes.
    """
    context = _alone()
    context.array.loading.enable_padding_and_truncation = truncate
    try:
        with context, _silent():
            return ocp.load(folder.resolve(), wanted)
    except Exception as error:  # Orbax passes on any error of its storage
        raise _unreadable(folder, error) from None


def load_store(
    folder: Path, dtype: DTypeLike, depth: int | None = None, layout: Layout | None = None
) -> tuple[DecoderConfig, Params]:
    """Loads an Orbax checkpoint onto the device or the mesh; arguments, result and strictness as in `load_params`."""
    # Pieces for a mesh are cut from whole params, for which the host has more room than a device.
    staged = stage_store(folder, dtype, depth, layout, None if layout is None else staging_device())
    return staged.config, staged.placed()


def stage_store(
    folder: Path,
    dtype: DTypeLike,
    depth: int | None = None,
    layout: Layout | None = None,
    stage: jax.Device | None = None,
) -> Staged:
    """Reads and checks an Orbax checkpoint; arguments, result and strictness as in `stage_params`.

    Every process reads all of it, whatever its devices need: checkpoints of jtrace's own pre-training are small.
    """
    full, _ = read_model_config(read_config_json(folder), str(folder / "config.json"))
    if layout is not None:
        check_fits(layout, full, str(folder))
    with nullcontext() if stage is None else jax.default_device(stage):
        config = full.truncated(min(depth or full.depth, full.depth))
        _check_store(folder, full)
        device = jax.sharding.SingleDeviceSharding(stage or jax.local_devices()[0])
        wanted = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), abstract_params(config, dtype)
        )
        # truncate reads only the wanted layers.
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


def check_stored(folder: Path, config: DecoderConfig, family: Family) -> None:
    """Hold what a Hugging Face folder or an Orbax checkpoint stores against its config, before anything is built of it.

    Raises:
        InputError: other names, shapes or dtypes, or the files are damaged.
    """
    if is_store(folder):
        _check_store(folder, config)
    else:
        check_folder(folder, config, family)


def _check_store(folder: Path, config: DecoderConfig) -> None:
    stored = {name: leaf.shape for name, leaf in _stored(folder).items()}
    expected = {name: leaf.shape for name, leaf in _leaves(abstract_params(config, jnp.float32)).items()}
    for name in sorted(expected.keys() | stored.keys()):
        if expected.get(name) != stored.get(name):
            raise InputError(
                f"{folder}: param '{name}' has shape {_shape(stored.get(name))}; "
                f"config.json asks for {_shape(expected.get(name))}"
            )


def stored_dtype(folder: Path) -> np.dtype:
    """Returns the dtype of an Orbax checkpoint's params; float32 if they differ.

    Raises:
        InputError: it cannot be read.
    """
    kinds = {np.dtype(leaf.dtype) for leaf in _stored(folder).values()}
    return kinds.pop() if len(kinds) == 1 else np.dtype(np.float32)


def copy_companions(
    out: Path, values: dict[str, Any], tokenizer: Path | None, beside: Mapping[str, str] = NO_FILES
) -> None:
    """Writes the files beside the weights: config.json, tokeniser, generation_config.json, and texts by their names."""
    for name, text in beside.items():
        (out / name).write_text(text, encoding="utf-8")
    (out / "config.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    for name in (*TOKENIZER_FILES, "generation_config.json"):
        if tokenizer is not None and (tokenizer / name).is_file():
            shutil.copyfile(tokenizer / name, out / name)


def _alone() -> ocp.Context:
    """Returns an Orbax context of this process alone; by default Orbax waits for others, which may read other files."""
    context, me = ocp.Context(), jax.process_index()
    context.multiprocessing.primary_host, context.multiprocessing.active_processes = me, {me}
    return context


_at_work: list[None] = []  # one for each call of Orbax under way, in any thread


@contextmanager
def _silent() -> Iterator[None]:
    """Leaves out what Orbax logs: whatever fails it raises as well."""
    _at_work.append(None)
    try:
        yield
    finally:
        _at_work.pop()


@contextmanager
def _told_once() -> Iterator[None]:
    """Leaves out the tracebacks that Orbax's threads log for a fault that it raises as well.

    It raises the first fault; the other threads are waited for, so that none writes or logs afterwards.
    """
    with _silent():
        try:
            yield
        except BaseException:
            for thread in threading.enumerate():
                if type(thread).__module__.startswith("orbax."):
                    thread.join(LONGEST_WAIT)
            raise


# When a read fails, Orbax raises the first fault and closes the loop of the tasks that still wait. These are thrown
# away at any time, by any thread: asyncio then logs their faults, and Python prints those that it cannot raise.


def _is_logged_twice(record: logging.LogRecord) -> bool:
    """Tells whether a fault is one that Orbax has raised."""
    if record.name == "asyncio":
        raised = traceback.format_exception(record.exc_info[1]) if record.exc_info else []
        words = "".join([record.getMessage(), *raised]).casefold()
        return any(word in words for word in STORAGE)
    return bool(_at_work) and ORBAX in record.pathname


def _is_left_behind(unraisable: Any) -> bool:
    """Tells whether a fault is of a task that Orbax has left, or of TensorStore that calls one back."""
    code = getattr(unraisable.object, "cr_code", None)
    if code is not None:
        return ORBAX in code.co_filename
    return unraisable.object is None and str(unraisable.exc_value) == "Event loop is closed"


def _print_unraisable(unraisable: Any, printed: Callable[[Any], object] = sys.unraisablehook) -> None:
    if not _is_left_behind(unraisable):
        printed(unraisable)


for _name in ("absl", "asyncio"):
    logging.getLogger(_name).addFilter(lambda record: not _is_logged_twice(record))
sys.unraisablehook = _print_unraisable
warnings.filterwarnings("ignore", "coroutine '_read_array_index_and_device_put'", RuntimeWarning)


def _stored(folder: Path) -> dict[str, Any]:
    """Reads shape and dtype of every param of an Orbax checkpoint, by name."""
    try:
        with _alone(), _silent():
            tree = ocp.metadata(folder.resolve() / PARAMS).metadata
        if tree is None:
            raise ValueError("its index or the head of an array is damaged")
        return _leaves(tree)
    except Exception as error:  # Orbax passes on any error of its storage
        raise _unreadable(folder / PARAMS, error) from None


def _leaves(tree: Any) -> dict[str, Any]:
    return flatten_dict(tree, sep="/")


def _shape(shape: tuple[int, ...] | None) -> str:
    return "none" if shape is None else str(list(shape))


def _unreadable(folder: Path, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return InputError(f"{folder}: cannot be read as an Orbax checkpoint ({reason}); delete it and make it again")
