"""An iterator that runs ahead of its reader, and a wait in a thread of its own."""

import threading
import time

import pytest

from jtrace.runtime.prefetch import PrefetchIterator, waited_for


def counted(made, until=10**6, stop=None):
    for number in range(until):
        if stop is not None and stop.is_set():
            return
        made.append(number)
        yield number


def test_items_come_in_order_and_end():
    with PrefetchIterator(counted([], 5), 2, threading.Event(), "test") as items:
        assert list(items) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("ahead", [1, 3])
def test_no_more_are_made_than_asked_for(ahead):
    made = []
    with PrefetchIterator(counted(made), ahead, threading.Event(), "test") as items:
        for taken in items:
            time.sleep(0.02)
            assert len(made) <= taken + 1 + ahead
            if taken == 5:
                break
        time.sleep(0.1)
        assert len(made) == 6 + ahead


def test_they_are_made_while_the_reader_works():
    made = []
    with PrefetchIterator(counted(made, 3), 1, threading.Event(), "test") as items:
        iterator = iter(items)
        next(iterator)
        deadline = time.monotonic() + 10
        while len(made) < 2 and time.monotonic() < deadline:
            time.sleep(0.005)
        assert made == [0, 1]


def test_an_error_reaches_the_reader_after_the_items_before_it():
    def failing():
        yield 1
        raise KeyError("lost")

    seen = []

    def read():
        with PrefetchIterator(failing(), 2, threading.Event(), "test") as items:
            seen.extend(items)

    with pytest.raises(KeyError, match="lost"):
        read()
    assert seen == [1]


def test_leaving_it_ends_the_thread_and_what_it_reads_from():
    stop, made = threading.Event(), []
    with (
        PrefetchIterator(counted(made, stop=stop), 2, stop, "inner") as inner,
        PrefetchIterator((2 * item for item in inner), 1, stop, "outer") as outer,
    ):
        assert next(iter(outer)) == 0
    assert stop.is_set()
    count = len(made)
    time.sleep(0.05)
    assert len(made) == count
    assert not {"inner", "outer"} & {thread.name for thread in threading.enumerate()}


def test_a_call_is_waited_for():
    done = []
    waited_for(lambda: (time.sleep(0.05), done.append(True)), "test")
    assert done == [True]


def test_what_a_call_raises_reaches_who_waits():
    def fails():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        waited_for(fails, "test")
