"""Several processes as one command, by jax.distributed: joining, shares of work, waiting and leaving."""

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
# JAX aborts a process that cannot connect; this many seconds earlier, jtrace says so in one line.
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
    """Joins the other processes of this command; call it before anything asks JAX for devices.

    Args:
        coordinator: host:port of process 0. If all three are None, they are detected where SLURM (srun), Open MPI or
            a TPU pod started the processes.
        processes: number of processes.
        process: number of this one, from 0.
        one_mesh: whether the processes will run programs together.
        timeout_s: seconds within which all processes have to join.

    Raises:
        InputError: nothing is detected, the three do not fit together, or not all processes joined in time.
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
    # JAX would handle SIGTERM by itself, see cli.run.
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
    # However this process ends, it does not wait for the others.
    atexit.register(leave, 1)
    if one_mesh and jax.process_count() > 1:
        # On GPUs all processes compile a common program together: one that had it in its cache would leave the others
        # waiting forever, and only process 0 writes the cache.
        jax.config.update("jax_enable_compilation_cache", False)
        # Devices have to connect within seconds of each other, so they do it here.
        wait_for_all("start")
        all_agree(True)


def share(items: Sequence[T], process: int, count: int) -> list[T]:
    """Returns every `count`-th item from `process` on, which spreads neighbouring checkpoints evenly."""
    return list(items[process::count])


def all_agree(ok: bool) -> bool:
    """Returns whether `ok` is true in every process; all processes have to call it."""
    if not _several():
        return ok
    wait_for_all("agree")
    return bool(multihost_utils.process_allgather(np.array(ok)).all())


def from_first(flags: np.ndarray) -> np.ndarray:
    """Returns process 0's `flags` [n], bool; all processes have to call it, with the same n."""
    if not _several():
        return flags
    wait_for_all("first")
    return np.asarray(multihost_utils.broadcast_one_to_all(flags), bool)


def wait_for_all(name: str) -> None:
    """Waits, for days if need be, until every process has reached the point of this name; a signal ends the wait."""
    if _several():
        barrier = multihost.get_barrier_sync_fn()
        waited_for(lambda: barrier(key=name, timeout_ms=LONGEST_SECONDS * 1000), f"wait for all: {name}")


def leave(status: int) -> None:
    """Ends the process with `status` unless the others end too within seconds; JAX informs them."""
    if not jax.distributed.is_initialized():
        return
    sys.stdout.flush()
    sys.stderr.flush()
    # A process whose connecting failed has no others to inform.
    if any(thread.name == CONNECTING for thread in threading.enumerate()):
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
    """Refuses a port that is taken, on which jaxlib 0.10.1 sometimes crashes."""
    try:
        socket.create_server(("", int(coordinator.rpartition(":")[2]))).close()
    except OSError as error:
        raise InputError(
            f"--coordinator={coordinator}: this port cannot be had ({error.strerror}); choose another"
        ) from None


def _several() -> bool:
    # Devices are not asked first: a command that needs none must not start them.
    return jax.distributed.is_initialized() and jax.process_count() > 1
