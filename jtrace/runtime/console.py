"""Standard output and error of a command: nothing that is printed can cost finished work."""

import io
import os
import sys
from typing import TextIO


class _Dropping(io.TextIOWrapper):
    """A stream that, once it cannot be written, drops what it is given: its reader has gone, or its disk is full."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            self._drop()
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            self._drop()

    def _drop(self) -> None:
        # The descriptor itself, so that what is left in buffers goes there as well, at the interpreter's end at last.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


def speak_without_fail() -> None:
    """Let standard output and error drop what cannot be written, and escape what their encoding does not have."""
    # A descriptor that was closed for us would be the next file's, and whoever prints would write into that.
    while (free := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(free)
    sys.stdout, sys.stderr = _without_fail(sys.stdout, 1), _without_fail(sys.stderr, 2)


def _without_fail(stream: TextIO | None, descriptor: int) -> TextIO:
    """The stream anew; None is one that was closed."""
    return _Dropping(
        io.BufferedWriter(io.FileIO(descriptor, "w", closefd=False)),
        encoding=stream.encoding if stream else "utf-8",
        errors="backslashreplace",
        line_buffering=isinstance(stream, io.TextIOWrapper) and stream.line_buffering,
        write_through=isinstance(stream, io.TextIOWrapper) and stream.write_through,
    )
