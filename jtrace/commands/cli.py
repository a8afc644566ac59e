"""The rim that all launch scripts share: flags in, one line out when something is wrong."""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

import jax
from absl import app, flags
from absl import logging as absl_logging

from jtrace.errors import InputError, Terminated
from jtrace.runtime.compilation import use_cache
from jtrace.runtime.console import speak_without_fail
from jtrace.runtime.distributed import leave, wait_for_all
from jtrace.runtime.names import check_utf8
from jtrace.runtime.prefetch import Ahead
from jtrace.runtime.progress import progress_lines

RESEND_SECONDS = 0.05


def run(
    main: Callable[..., int],
    values: flags.FlagValues | None = None,
    about: str | None = None,
    words: bool = False,
    named: bool = False,
) -> None:
    """Parse flags, call `main` and exit with its status.

    Args:
        values: the flags of the command. Each command has its own, so that several can be imported side by side.
        about: what --help says above them.
        words: whether `main` is given what stands beside the flags, a list of strings; else there may be nothing there.
        named: whether the first of what stands there is the command's name.

    Bad input is one line on stderr and status 1. Ctrl-C and SIGTERM end `main` by KeyboardInterrupt, with status 130
    and 143; a second one ends the process at once. Compiled programs are kept, see `jtrace.runtime.compilation`.
    One of several processes waits for the others at its end, unless it ends for one of these reasons. Where standard
    output or error cannot be written, what is printed is dropped, and the status tells of the work all the same.
    """

    def guarded(argv: list[str]) -> int:
        beside = argv[2:] if named else argv[1:]
        # JAX reports every backend that it did not find.
        absl_logging.set_verbosity(absl_logging.WARNING)
        # Its faults arrive as errors; each attempt need not be told beside them.
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
        status, stopped = 1, False
        if values is not None:
            values.mark_as_parsed()
        try:
            _stop_on_signals()
            for word in sys.argv[1:]:
                check_utf8(word, "the command line:")
            if beside and not words:
                raise InputError(f"'{beside[0]}' is not a flag; write --flag=value, and see --help")
            _keep_the_host()
            use_cache()
            with progress_lines():
                status = main(beside) if words else main()
                wait_for_all("end")
            return status
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
        except OSError as error:
            print(f"error: {error.filename or ''}: {error.strerror or error}".replace(": :", ":"), file=sys.stderr)
        except KeyboardInterrupt as error:
            ended, status = ("terminated", 143) if isinstance(error, Terminated) else ("interrupted", 130)
            print(f"{ended}; the same command goes on with what is missing", file=sys.stderr)
            stopped = True
        leave(status)
        if stopped or any(isinstance(thread, Ahead) for thread in threading.enumerate()):
            # Devices or threads are still at work in C++; the end of the interpreter would abort them with a page of
            # messages, or crash.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        return status

    speak_without_fail()
    if values is not None:
        for name in values:
            flags.FLAGS[name] = values[name]
            flags.FLAGS.register_key_flag_for_module(sys.argv[0], values[name])
    sys.modules["__main__"].__doc__ = about
    app.run(guarded)


def _keep_the_host() -> None:
    """Checkpoints are read into the host's memory while an accelerator works, so JAX needs the CPU beside it."""
    platforms = jax.config.values["jax_platforms"]
    if platforms and "cpu" not in platforms.split(","):
        jax.config.update("jax_platforms", f"{platforms},cpu")


def check_device() -> None:
    """Ask JAX for its device, in a command that computes and after `jax.distributed` has begun.

    Raises:
        InputError: the first of JAX_PLATFORMS is not there, which JAX would pass over for the CPU, or there is none.
    """
    asked = (jax.config.values["jax_platforms"] or "").split(",")[0]
    try:
        backend, reason = jax.default_backend(), "no such device, or no JAX for it"
    except RuntimeError as error:
        backend, reason = "", " ".join(str(error).split()).partition(" (set JAX")[0]
    if not backend or (backend == "cpu" and asked not in ("", "cpu")):
        raise InputError(
            f"JAX_PLATFORMS={asked}: not found ({reason}); unset it to compute on what is there, or install "
            "jtrace with the extra cuda or tpu"
        )


def _stop_on_signals() -> None:
    """Let the first of SIGINT and SIGTERM raise KeyboardInterrupt or `Terminated`, the next end the process."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        os._exit(128 + number)

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        for each in heeded:
            signal.signal(each, end)
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    def again(fault: "sys.UnraisableHookArgs") -> None:
        # A signal that comes while Python collects garbage raises where nothing can be raised.
        if not issubclass(fault.exc_type, KeyboardInterrupt):
            return sys.__unraisablehook__(fault)
        for each in heeded:
            signal.signal(each, stop)
        signal.signal(signal.SIGURG, lambda number, frame: None)
        number = signal.SIGTERM if issubclass(fault.exc_type, Terminated) else signal.SIGINT
        resent = threading.Timer(RESEND_SECONDS, resend, (number,))
        resent.daemon = True
        resent.start()

    def resend(number: signal.Signals) -> None:
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, number)
        # One that comes between the last look at signals and a call that waits is not looked at until another wakes it.
        while signal.getsignal(number) is stop:
            time.sleep(RESEND_SECONDS)
            signal.pthread_kill(main, signal.SIGURG)

    sys.unraisablehook = again
    # nohup and a shell's background ignore what their processes shall not see.
    heeded = [each for each in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(each) != signal.SIG_IGN]
    for each in heeded:
        signal.signal(each, stop)
