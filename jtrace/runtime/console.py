"""Standard output and error of a command, made so that a failed print cannot lose finished work."""

import io
import os
import sys
from typing import TextIO


class _Dropping(io.TextIOWrapper):
    """A stream that drops its text once it cannot be written, as its reader has gone or its disk is full."""

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
        # The descriptor itself is replaced, so that text in buffers is dropped too, at the interpreter's end at last.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


def speak_without_fail() -> None:
    """Makes standard output and error drop text that cannot be written, and escape what their encoding lacks."""
    # A standard descriptor that the caller closed would be given to the next file, and prints would go into that.
    while (free := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(free)
    sys.stdout, sys.stderr = _without_fail(sys.stdout, 1), _without_fail(sys.stderr, 2)


def _without_fail(stream: TextIO | None, descriptor: int) -> TextIO:
    """Makes a stream again; None stands for a closed one."""
    return _Dropping(
        io.BufferedWriter(io.FileIO(descriptor, "w", closefd=False)),
        encoding=stream.encoding if stream else "utf-8",
        errors="backslashreplace",
        line_buffering=isinstance(stream, io.TextIOWrapper) and stream.line_buffering,
        write_through=isinstance(stream, io.TextIOWrapper) and stream.write_through,
    )
