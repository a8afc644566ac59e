"""Bytes that may be held at once."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jtrace.errors import InputError, StoppedError
from jtrace.runtime.budget import Budget, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("200GB", 2 * 10**11),
        ("1.5TB", 15 * 10**11),
        ("64GiB", 2**36),
        ("1000", 1000),
        (" 3 mb ", 3 * 10**6),
        ("2k", 2000),
    ],
)
def test_sizes_are_written_as_people_write_them(text, size):
    assert parse_size("disk_budget", text) == size


@pytest.mark.parametrize("text", ["", "GB", "0GB", "-1GB", "1 GB GB", "1e9", "5PB", "1ib", "1,5GB", "nan"])
def test_anything_else_is_refused_by_the_flag_s_name(text):
    with pytest.raises(InputError, match=r"--disk_budget=.*: no size; give bytes, as 200GB"):
        parse_size("disk_budget", text)


@given(st.integers(1, 10**15))
def test_plain_bytes_are_themselves(count):
    assert parse_size("disk_budget", str(count)) == count


def test_who_takes_more_than_is_left_waits_until_it_is_given_back():
    budget = Budget(10, threading.Event())
    budget.take(6)
    waiting = threading.Thread(target=budget.take, args=(5,))
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive()
    assert budget.held == 6
    budget.give_back(6)
    waiting.join(10)
    assert (budget.held, budget.peak) == (5, 6)


def test_a_wait_ends_when_all_is_stopped():
    stop = threading.Event()
    budget = Budget(10, stop)
    budget.take(10)
    stop.set()
    with pytest.raises(StoppedError):
        budget.take(1)
    assert budget.held == 10


def test_what_is_larger_than_the_limit_has_it_alone():
    budget = Budget(10, threading.Event())
    budget.take(15)
    assert budget.held == 15


def test_a_lease_is_given_back_at_its_end_whatever_ends_it():
    budget = Budget(10, threading.Event())
    with budget.lease(4):
        assert budget.held == 4

    def fail() -> None:
        with budget.lease(6):
            raise InputError("damaged")

    with pytest.raises(InputError):
        fail()
    assert (budget.held, budget.peak) == (0, 6)


def test_a_lease_that_is_not_granted_gives_nothing_back():
    stop = threading.Event()
    budget = Budget(10, stop)
    budget.take(8)
    stop.set()
    with pytest.raises(StoppedError), budget.lease(4):
        pass
    assert budget.held == 8


@given(st.lists(st.integers(0, 10), max_size=20))
def test_never_more_than_the_limit_is_held(counts):
    stop = threading.Event()
    budget = Budget(10, stop)
    stop.set()  # who would wait is told to stop
    for count in counts:
        try:
            budget.take(count)
        except StoppedError:
            budget.give_back(budget.held)
    assert budget.peak <= 10
