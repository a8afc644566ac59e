"""Others' parsers at work on files that strangers made: whatever they raise becomes one line."""

import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from jtrace.errors import InputError, StoppedError

COPY_AGAIN = "copy it again from where it came"
LONGEST_CAUSE = 200  # characters
PANICKED = b" panicked at "
STANDARD_ERROR = 2
_capturing = threading.Lock()


@contextmanager
def foreign(where: object, what: str = "cannot be read", remedy: str = COPY_AGAIN) -> Iterator[None]:
    """Turn all that a parser raises into one line, panics of Rust among it, which Python takes for no `Exception`.

    Args:
        where: the file.
        what: went wrong, and what to do about it.

    Raises:
        InputError: the block raised anything but that, or a signal.
    """
    try:
        yield
    except (InputError, StoppedError):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and not _is_panic(error):
            raise
        raise InputError(f"{where}: {what} ({cause(error)}); {remedy}") from None


@contextmanager
def foreign_rust(where: object, what: str = "cannot be read", remedy: str = COPY_AGAIN) -> Iterator[None]:
    """Guards a parser as `foreign` does; one in Rust prints its panics to standard error, and that is left out.

    What else is printed meanwhile, by this thread or another, comes afterwards.
    """
    with foreign(where, what, remedy), _without_panics():
        yield


def cause(error: BaseException) -> str:
    """The words of an error, or its kind where it has none, short and on one line."""
    words = " ".join(str(error).split())
    if isinstance(error, RecursionError):
        words = "nested too deeply"
    if isinstance(error, MemoryError):
        words = "it takes more memory than there is"
    return words[:LONGEST_CAUSE] or type(error).__name__


def _is_panic(error: BaseException) -> bool:
    # Each extension module has a class of its own.
    return type(error).__name__ == "PanicException" and type(error).__module__ == "pyo3_runtime"


@contextmanager
def _without_panics() -> Iterator[None]:
    """Hold back what goes to standard error, and drop it from the first panic on."""
    if not _capturing.acquire(blocking=False):  # another thread holds it back already
        yield
        return
    try:
        try:
            opened, before = tempfile.TemporaryFile(), os.dup(STANDARD_ERROR)  # noqa: SIM115
        except OSError:  # a closed stream or no room aside: a panic's words are printed then
            yield
            return
        with opened as aside:
            os.dup2(aside.fileno(), STANDARD_ERROR)
            try:
                yield
            finally:
                with suppress(OSError):  # a full or closed stream is no fault of the parser
                    if sys.stderr is not None:
                        sys.stderr.flush()
                os.dup2(before, STANDARD_ERROR)
                os.close(before)
                with suppress(OSError):
                    _print_until_panic(aside.fileno())
    finally:
        _capturing.release()


def _print_until_panic(held: int) -> None:
    content = os.pread(held, os.fstat(held).st_size, 0)
    at = content.find(PANICKED)
    if at >= 0:
        content = content[: max(content.rfind(b"\nthread ", 0, at), 0)]
    while content:
        content = content[os.write(STANDARD_ERROR, content) :]
