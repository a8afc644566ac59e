"""Executables: kept on disk for later processes of this user on this kind of machine, and not too many in memory."""

import glob
import hashlib
import os
import platform
import re
import stat
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import jaxlib
from jaxlib import utils as jaxlib_utils

MOST_BYTES = 4 << 30
# Even a tiny trace compiles some fifty programs of a few milliseconds each.
EVERYTHING = {"jax_persistent_cache_min_compile_time_secs": 0.0, "jax_persistent_cache_min_entry_size_bytes": -1}
CPU_FACTS = ("vendor_id", "model name", "flags", "CPU implementer", "CPU part", "Features")
DAMAGED = re.compile(r"Error reading persistent compilation cache entry for '(?P<program>[^']*)'")
UNWRITTEN = re.compile(r"Error writing persistent compilation cache entry for '[^']*': (?P<reason>.*)", re.DOTALL)
FATAL = 3  # level of absl's log
MAPS, MOST_MAPS = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")


def use_cache() -> Path | None:
    """Keeps compiled programs in `$XDG_CACHE_HOME/jtrace/compiled` (or ~/.cache), a folder for each kind of machine.

    Call it before the first compilation; it touches no device. Cached executables are code, so a folder that others
    can write to is not used. JAX's own settings JAX_COMPILATION_CACHE_DIR and JAX_ENABLE_COMPILATION_CACHE
    take precedence. A cache of more than 4 GiB is reduced, the programs that were unused for longest first.

    Returns:
        The folder in use; None without a cache, because the user chose so or because the folder cannot be used, which
        a line on stderr says.
    """
    if not jax.config.values["jax_enable_compilation_cache"]:
        return None
    if (named := jax.config.values["jax_compilation_cache_dir"]) is not None:
        return Path(named)
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "jtrace" / "compiled" / machine_digest()
    try:
        base.mkdir(parents=True, exist_ok=True)
        for level in (folder.parent.parent, folder.parent, folder):
            level.mkdir(mode=0o700, exist_ok=True)
            _check_private(level)
    except OSError as error:
        print(
            f"warning: {error.filename}: {error.strerror}; programs are compiled anew each time "
            "(JAX_COMPILATION_CACHE_DIR names another folder for them)",
            file=sys.stderr,
        )
        return None
    _trim(folder.parent, MOST_BYTES)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    for name, value in EVERYTHING.items():
        if name.upper() not in os.environ:
            jax.config.update(name, value)
    warnings.showwarning = _mending(folder, warnings.showwarning)
    _quieten_loader()
    return folder


def release_programs() -> None:
    """Drops the compiled programs of a process that holds half of the memory maps which Linux allows it.

    A program takes three; some 20,000 programs, as of a thousand sets of as many sizes, take all, and the next one ends
    the process by a segmentation fault. What is needed again is loaded from disk.
    """
    try:
        held, most = MAPS.read_bytes().count(b"\n"), int(MOST_MAPS.read_bytes())
    except OSError:  # not Linux
        return
    if held > most / 2:
        jax.clear_caches()


def machine_digest() -> str:
    """Digests what an executable depends on beside JAX's key: the CPU's instructions and cores, versions."""
    facts = [jax.__version__, jaxlib.__version__, platform.machine(), platform.processor(), *sorted(_cpu_facts())]
    # XLA splits loops over the cores that it may use, so the last bits of sums depend on their number.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts += [str(cores), os.environ.get("PJRT_NPROC", ""), os.environ.get("NPROC", "")]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def _cpu_facts() -> set[str]:
    """Reads model and feature flags of the CPU; empty where the system does not give them."""
    facts: set[str] = set()
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() in CPU_FACTS:
                facts.add(f"{name.strip()}: {' '.join(sorted(value.split()))}")
    return facts


def _check_private(folder: Path) -> None:
    """Raises OSError unless this user, and no other, can write to a folder."""
    status = folder.stat()
    if status.st_uid != os.geteuid():
        raise PermissionError(0, "belongs to another user, who could put code there", str(folder))
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(0, "others can write to it, and what it holds is run; remove it", str(folder))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(0, "cannot be written", str(folder))


def _trim(folder: Path, most_bytes: int) -> None:
    """Removes files, those not read for longest first, until at most `most_bytes` are left.

    JAX's own bound (jax_compilation_cache_max_size) is not used: it locks the folder and looks at every file for each
    program, and a process killed while writing makes all later writes fail.
    """
    files = []
    for path in folder.rglob("*"):
        with suppress(OSError):  # another process trims as well
            status = path.stat()
            if stat.S_ISREG(status.st_mode):
                files.append((status.st_atime, status.st_size, path))
    excess = sum(size for _, size, _ in files) - most_bytes
    for _, size, path in sorted(files):
        if excess <= 0:
            break
        with suppress(OSError):
            path.unlink()
        excess -= size


def _mending(folder: Path, show: Callable[..., None]) -> Callable[..., None]:
    """Wraps `show`, which shows warnings, for those of the cache.

    A damaged program is removed: JAX compiles it again, but never overwrites a file. Of programs that could not be
    written, only the first is reported.
    """
    reported = False

    def shown(message: Warning | str, category: type[Warning], filename: str, lineno: int, *rest: Any) -> None:
        nonlocal reported
        if damaged := DAMAGED.match(str(message)):
            for path in folder.glob(f"{glob.escape(damaged['program'])}-*"):
                with suppress(OSError):
                    path.unlink()
        elif unwritten := UNWRITTEN.match(str(message)):
            if not reported:
                reason = " ".join(unwritten["reason"].split())
                print(f"warning: compiled programs cannot be kept in {folder} ({reason})", file=sys.stderr)
            reported = True
        else:
            show(message, category, filename, lineno, *rest)

    return shown


def _quieten_loader() -> None:
    """Keeps XLA's CPU loader from reporting two errors for each program that it loads.

    On a CPU with AVX-512 XLA compiles with the tuning preferences +prefer-no-gather and +prefer-no-scatter, and its
    loader calls them features that the machine lacks (openxla/xla#44565). Real differences are in the digest. Other
    faults of this library are exceptions or fatal, and fatal ones are still logged; GPU plugins have their own log.
    """
    if "JAX_LOGGING_LEVEL" in os.environ or os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0":  # asked for; JAX sets "1"
        return
    if any("avx512" in fact for fact in _cpu_facts()):
        jaxlib_utils.absl_set_min_log_level(FATAL)
