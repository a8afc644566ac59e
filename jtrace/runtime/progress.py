"""Progress of work: bars on a terminal, elsewhere a line a minute about all of them."""

import io
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from tqdm import tqdm

LINE_SECONDS = 60.0
LINE = "{desc}: {n_fmt} of {total_fmt}{unit}, {elapsed} so far, {remaining} left{postfix}"


class _Nowhere(io.TextIOBase):
    def write(self, text: str) -> int:
        return len(text)


class Bar(tqdm):
    """A bar that disappears when done. Where standard error is no terminal, it counts without being drawn.

    Attributes:
        at_work: unfinished bars that are not drawn, by identity, outer ones first.
    """

    at_work: ClassVar[dict[int, "Bar"]] = {}

    def __init__(self, iterable: Iterable[Any] | None = None, desc: str | None = None, **options: Any) -> None:
        """Takes the arguments of tqdm; without a label nothing is shown."""
        undrawn: dict[str, Any] = {} if sys.stderr.isatty() else {"file": _Nowhere(), "bar_format": LINE}
        super().__init__(iterable, desc, **{"leave": False, "disable": desc is None} | undrawn | options)
        if undrawn and desc is not None:
            Bar.at_work[id(self)] = self  # bars compare by their places on a terminal

    def close(self) -> None:
        Bar.at_work.pop(id(self), None)
        super().close()


@contextmanager
def progress_lines(seconds: float = LINE_SECONDS) -> Iterator[None]:
    """Prints, while the block runs, a line on standard error at intervals about the bars that are not drawn."""
    done = threading.Event()

    def tell() -> None:
        while not done.wait(seconds):
            if bars := tuple(Bar.at_work.values()):
                print("; ".join(map(str, bars)), file=sys.stderr, flush=True)

    thread = threading.Thread(target=tell, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
