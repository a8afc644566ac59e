"""Work in a thread of its own: an iterator that runs ahead of its reader, a wait that a signal can end."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")
LONGEST_WAIT = 3.0  # seconds, for a thread to notice that it shall end
POLL = 0.2  # seconds, for a reader to notice


class Ahead(threading.Thread):
    """A thread of this module, which may still be at work when the process ends."""


class PrefetchIterator(Generic[T]):
    """Makes items ahead of whoever takes them: at most `ahead` that are not taken yet, the one being made included.

    An exception of the items' own iterator reaches the reader after the items before it. To be used as a context
    manager: leaving it sets `stop`, which the items' iterator has to heed, and waits for the thread to end.
    """

    def __init__(self, items: Iterable[T], ahead: int, stop: threading.Event, name: str) -> None:
        self._items, self._stop = items, stop
        self._slots = threading.Semaphore(ahead)
        self._made: queue.SimpleQueue[tuple[bool, T | BaseException | None]] = queue.SimpleQueue()
        # A daemon: an answer that a server holds back must not hold back the end of the process.
        self._thread = Ahead(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._slots.release()
        self._thread.join(LONGEST_WAIT)

    def __iter__(self) -> Iterator[T]:
        while True:
            try:
                there, made = self._made.get(timeout=POLL)
            except queue.Empty:
                if self._stop.is_set():
                    return
                continue
            self._slots.release()
            if there:
                yield made  # type: ignore[misc]
            elif isinstance(made, BaseException):
                raise made
            else:
                return

    def _run(self) -> None:
        try:
            items = iter(self._items)
            while True:
                self._slots.acquire()
                if self._stop.is_set():
                    break
                self._made.put((True, next(items)))
        except StopIteration:
            pass
        except BaseException as error:  # the reader's to handle
            self._made.put((False, error))
            return
        self._made.put((False, None))


def waited_for(call: Callable[[], None], name: str) -> None:
    """Return when `call` has, or raise what it raises; a signal ends the wait, as it would not in C++ code."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:  # the waiting thread's to handle
            failed.append(error)

    thread = Ahead(target=run, name=name, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(POLL)
    if failed:
        raise failed[0]
