"""Several processes as one command, on top of jax.distributed: who takes part, who does what, who waits for whom."""

import atexit
import os
import socket
import sys
import threading
from collections.abc import Sequence
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint import multihost

from jtrace.errors import InputError
from jtrace.runtime.prefetch import waited_for

CONNECT_SECONDS = 300
# JAX aborts a process that cannot connect; this much earlier than that it is told in one line.
EARLIER_SECONDS = 60
# Shares of a sweep may end days apart.
LONGEST_SECONDS = 14 * 24 * 3600
LEAVE_SECONDS = 10
CONNECTING = "connect to the other processes"

T = TypeVar("T")


def initialize(
    coordinator: str | None,
    processes: int | None,
    process: int | None,
    *,
    one_mesh: bool = False,
    timeout_s: float = CONNECT_SECONDS,
) -> None:
    """Join the other processes of this command; to be called before anything asks JAX for its devices.

    Args:
        coordinator: host:port of process 0. With the two others None, all is found where SLURM (srun), Open MPI or a
            TPU pod started the processes.
        processes: how many there are.
        process: which one this is, from 0.
        one_mesh: whether they will run programs together.
        timeout_s: seconds within which all processes have to come.

    Raises:
        InputError: there is nothing to find, the three do not go together, or not all processes came in time.
    """
    given = (coordinator, processes, process)
    if coordinator is not None and not _has_port(coordinator):
        raise InputError(
            f"--coordinator={coordinator}: no port; give host:port of process 0, the same to every process"
        )
    if None in given and given != (None, None, None):
        raise InputError("--distributed: give all of --coordinator, --processes and --process, or none of them")
    if processes is not None and process is not None and not 0 <= process < processes:
        raise InputError(f"--process={process}: not one of {processes}; they are numbered from 0 to {processes - 1}")
    if coordinator is not None and process == 0:
        _check_port(coordinator)
    # JAX would take SIGTERM for itself, see cli.run.
    jax.config.update("jax_enable_preemption_service", False)
    failed: list[Exception] = []

    def connect() -> None:
        try:
            jax.distributed.initialize(
                coordinator,
                processes,
                process,
                cluster_detection_method=None if coordinator is None else "deactivate",
                initialization_timeout=int(timeout_s) + EARLIER_SECONDS,
                shutdown_timeout_seconds=LONGEST_SECONDS,
            )
        except Exception as error:
            failed.append(error)

    connecting = threading.Thread(target=connect, name=CONNECTING, daemon=True)
    connecting.start()
    connecting.join(timeout_s)
    where = coordinator or "the address that the cluster names"
    if connecting.is_alive():
        raise InputError(
            f"--distributed: not all processes met at {where} within {timeout_s:g} s; start every one of them, and see "
            "that process 0 runs on that host and that the port can be reached"
        )
    if failed:
        if isinstance(failed[0], ValueError) and coordinator is None:
            raise InputError(
                "--distributed: neither SLURM (srun), Open MPI nor a TPU pod started this process; "
                "give --coordinator=host:port, --processes=N and --process=I"
            )
        raise InputError(f"--distributed: cannot begin at {where}: {' '.join(str(failed[0]).split())}")
    # Whatever ends this process, the others are not waited for.
    atexit.register(leave, 1)
    if one_mesh and jax.process_count() > 1:
        # On GPUs a program of several processes is compiled by all of them together: one that found it in its cache
        # would leave the others waiting forever, and only process 0 writes.
        jax.config.update("jax_enable_compilation_cache", False)
        # Connections between devices have to be made within seconds of each other, so now.
        wait_for_all("start")
        all_agree(True)


def share(items: Sequence[T], process: int, count: int) -> list[T]:
    """Every `count`-th item, from number `process` on: checkpoints near in training, and in size, are spread evenly."""
    return list(items[process::count])


def all_agree(ok: bool) -> bool:
    """Whether `ok` is true in every process; all have to ask."""
    if not _several():
        return ok
    wait_for_all("agree")
    return bool(multihost_utils.process_allgather(np.array(ok)).all())


def from_first(flags: np.ndarray) -> np.ndarray:
    """Process 0's `flags` [n], bool; all processes have to ask, with equally many."""
    if not _several():
        return flags
    wait_for_all("first")
    return np.asarray(multihost_utils.broadcast_one_to_all(flags), bool)


def wait_for_all(name: str) -> None:
    """Wait until every process is at the point of this name, for days if need be; a signal ends the wait."""
    if _several():
        barrier = multihost.get_barrier_sync_fn()
        waited_for(lambda: barrier(key=name, timeout_ms=LONGEST_SECONDS * 1000), f"wait for all: {name}")


def leave(status: int) -> None:
    """End with `status` where the other processes do not end as well within seconds; they are told by JAX."""
    if not jax.distributed.is_initialized():
        return
    sys.stdout.flush()
    sys.stderr.flush()
    if any(thread.name == CONNECTING for thread in threading.enumerate()):  # in vain: there is nobody to leave
        os._exit(status)
    leaving = threading.Thread(target=jax.distributed.shutdown, daemon=True)
    leaving.start()
    leaving.join(LEAVE_SECONDS)
    if leaving.is_alive():
        os._exit(status)


def _has_port(coordinator: str) -> bool:
    host, _, port = coordinator.rpartition(":")
    return bool(host) and port.isdecimal() and int(port) < 1 << 16


def _check_port(coordinator: str) -> None:
    """Refuse a port that is taken, in which case jaxlib 0.10.1 crashes now and then."""
    try:
        socket.create_server(("", int(coordinator.rpartition(":")[2]))).close()
    except OSError as error:
        raise InputError(
            f"--coordinator={coordinator}: this port cannot be had ({error.strerror}); choose another"
        ) from None


def _several() -> bool:
    # Not asked of devices where there is no need: a command that uses none does not begin to.
    return jax.distributed.is_initialized() and jax.process_count() > 1
