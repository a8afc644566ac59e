"""Work in threads: an iterator that runs ahead of its reader, and a wait that a signal can end."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")
LONGEST_WAIT = 3.0  # seconds within which a thread notices that it should end
POLL = 0.2  # seconds within which a reader notices it


class Ahead(threading.Thread):
    """A thread of this module, which may still be at work when the process ends."""


class PrefetchIterator(Generic[T]):
    """An iterator whose items a thread makes ahead of the reader, at most `ahead`, the one being made included.

    An exception of the items' iterator reaches the reader after the items before it. Use it as a context manager:
    leaving it sets `stop`, which the items' iterator has to check, and waits for the thread to end.
    """

    def __init__(self, items: Iterable[T], ahead: int, stop: threading.Event, name: str) -> None:
        self._items, self._stop = items, stop
        self._slots = threading.Semaphore(ahead)
        self._made: queue.SimpleQueue[tuple[bool, T | BaseException | None]] = queue.SimpleQueue()
        # A daemon: a server that does not answer must not keep the process from ending.
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
                is_item, made = self._made.get(timeout=POLL)
            except queue.Empty:
                if self._stop.is_set():
                    return
                continue
            self._slots.release()
            if is_item:
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
        except BaseException as error:  # for the reader to handle
            self._made.put((False, error))
            return
        self._made.put((False, None))


def waited_for(call: Callable[[], None], name: str) -> None:
    """Runs `call` in a thread and waits for it, so that a signal can end the wait even where `call` is in C++ code."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:  # for the waiting thread to handle
            failed.append(error)

    thread = Ahead(target=run, name=name, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(POLL)
    if failed:
        raise failed[0]
