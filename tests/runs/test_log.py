"""The log of a sweep: what is written is read back, whoever is killed while writing."""

import json
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jtrace.errors import InputError
from jtrace.runs import log
from jtrace.runs.log import Best, CheckpointTiming, Span, append, busy, by_process, duration, overlap, read
from tests.conftest import ROOT

PASSAGE = CheckpointTiming(
    checkpoint="amber@ckpt_001",
    time="2026-01-02T03:04:05+00:00",
    process="node:7",
    fetch=Span(0.0, 12.1),
    read=Span(12.1, 13.3),
    extract=Span(13.3, 16.4),
    statistics=Span(16.4, 17.2),
    behaviour=None,
    fetched_bytes=544_500_000,
    read_bytes=276_000_000,
    tokens=38_270,
    memory_bytes=3 * 2**29,
    disk_bytes=10**9,
    best=Best("stereoset", 14, "paper", 0.931),
)

numbers = st.floats(0, 2**61)
counts = st.integers(0, 2**61)
spans = st.builds(Span, numbers, numbers)
passages = st.builds(
    CheckpointTiming,
    checkpoint=st.text(),
    time=st.text(),
    process=st.text(),
    fetch=st.none() | spans,
    read=spans,
    extract=spans,
    statistics=spans,
    behaviour=st.none() | spans,
    fetched_bytes=counts,
    read_bytes=counts,
    tokens=counts,
    memory_bytes=counts,
    disk_bytes=counts,
    best=st.none() | st.builds(Best, st.text(), counts, st.text(), numbers),
)


def at(start, fetch, read, extract, statistics=0.0, process="node:7", checkpoint="c"):
    """A passage without waits, from `start` on, of stages that take so many seconds."""
    ends = [start + sum((fetch, read, extract, statistics)[:count]) for count in range(5)]
    first, second, third, fourth = (Span(*pair) for pair in pairwise(ends))
    fetched = first if fetch else None
    return replace(
        PASSAGE, checkpoint=checkpoint, process=process, fetch=fetched, read=second, extract=third, statistics=fourth
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("log") / "log.jsonl"


@given(st.lists(passages, max_size=4))
def test_what_was_appended_is_read_back(path, written):
    path.unlink(missing_ok=True)
    for passage in written:
        append(path, passage)
    assert read(path) == written


@settings(max_examples=300)
@given(st.lists(passages, min_size=1, max_size=3), st.data())
def test_a_line_that_a_killed_writer_cut_short_costs_that_line_alone(path, written, data):
    path.unlink(missing_ok=True)
    ends = []
    for passage in written:
        append(path, passage)
        ends.append(path.stat().st_size)
    cut = data.draw(st.integers(0, ends[-1]))
    path.write_bytes(path.read_bytes()[:cut])
    whole = [passage for passage, end in zip(written, ends, strict=True) if end - 1 <= cut]  # a newline may be missing
    assert read(path) == whole
    append(path, PASSAGE)
    assert read(path) == [*whole, PASSAGE]


@settings(max_examples=300)
@given(st.lists(st.binary(max_size=40) | st.sampled_from([b"{}", b"[]", b"null", b"5", b'{"fetch": 5}']), max_size=5))
def test_bytes_of_any_kind_between_the_lines_are_passed_over(path, others):
    path.unlink(missing_ok=True)
    append(path, PASSAGE)
    line = path.read_bytes()
    path.write_bytes(line + b"".join(other + b"\n" + line for other in others))
    assert read(path) == [PASSAGE] * (1 + len(others))


@pytest.mark.parametrize(
    "change",
    [
        {"read": None},
        {"read": {"start": 1.0}},
        {"extract": {"start": "1", "end": 2.0}},
        {"extract": {"start": 1.0, "end": float("inf")}},
        {"extract": {"start": 1.0, "end": 10**400}},
        {"tokens": "many"},
        {"checkpoint": 5},
        {"best": {"dataset": "mine"}},
        {"best": "0.9"},
        {"colour": "red"},
    ],
    ids=str,
)
def test_a_line_of_another_form_is_passed_over(tmp_path, change):
    file = tmp_path / "log.jsonl"
    append(file, PASSAGE)
    file.write_text(json.dumps(json.loads(file.read_text()) | change) + "\n")
    append(file, PASSAGE)
    assert read(file) == [PASSAGE]


def test_there_is_no_log_before_the_first_checkpoint(tmp_path):
    assert read(tmp_path / "log.jsonl") == []


@pytest.mark.slow
def test_lines_of_processes_that_write_at_once_stay_whole(tmp_path):
    program = (
        "import sys; from dataclasses import replace; from pathlib import Path; from jtrace.runs.log import append\n"
        "from tests.runs.test_log import PASSAGE\n"
        "print(flush=True); sys.stdin.read()\n"
        "for number in range(1000): append(Path(sys.argv[1]), replace(PASSAGE, process=sys.argv[2], tokens=number))"
    )
    file = tmp_path / "log.jsonl"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "cwd": ROOT}
    writers = [subprocess.Popen([sys.executable, "-c", program, file, f"node:{i}"], **pipes) for i in range(3)]
    for writer in writers:  # all are ready before the first begins
        writer.stdout.readline()
    for writer in writers:
        writer.stdin.close()
    for writer in writers:
        with writer:
            assert writer.wait() == 0
    found = read(file)
    for i in range(3):
        assert [p.tokens for p in found if p.process == f"node:{i}"] == list(range(1000))


def test_a_disk_that_does_not_take_a_line_is_named(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"gone/log\.jsonl: cannot be written"):
        append(tmp_path / "gone" / "log.jsonl", PASSAGE)
    monkeypatch.setattr(log.os, "write", lambda opened, line: len(line) // 2)
    with pytest.raises(InputError, match=r"log\.jsonl: cannot be written \(disk full\)"):
        append(tmp_path / "log.jsonl", PASSAGE)


def test_a_log_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path)


def test_the_line_printed_says_what_each_stage_took():
    assert str(PASSAGE) == (
        "fetch 12.1 s (45 MB/s), read 1.2 s (230 MB/s), extract 3.1 s (12,345 tokens/s), statistics 0.8 s, "
        "memory 1.5 GiB, best probe 0.93 (stereoset, layer 14)"
    )
    local = replace(PASSAGE, fetch=None, behaviour=Span(17.2, 19.2), best=None)
    assert str(local) == (
        "read 1.2 s (230 MB/s), extract 3.1 s (12,345 tokens/s), behaviour 2.0 s, statistics 0.8 s, memory 1.5 GiB"
    )
    assert str(replace(PASSAGE, fetched_bytes=0)).startswith("fetch 12.1 s, read")


def test_compute_ends_with_the_last_that_the_device_does():
    assert PASSAGE.compute == Span(13.3, 17.2)
    assert replace(PASSAGE, behaviour=Span(17.2, 20.0)).compute == Span(13.3, 20.0)


def test_stages_that_hide_each_other_take_as_long_as_the_slowest():
    one_by_one = overlap([at(0, 10, 1, 2, 1), at(14, 10, 1, 2, 1)])
    assert (one_by_one.wall, one_by_one.fetch, one_by_one.read, one_by_one.compute) == (28, 20, 2, 6)
    assert (one_by_one.slowest, one_by_one.ratio) == ("fetch", 1.4)
    hidden = overlap([at(0, 10, 1, 2, 1), at(10, 10, 1, 2, 1)])
    assert hidden.ratio == 1.2
    assert overlap([at(0, 0, 0, 0)]) is None
    assert overlap([]) is None


def test_downloads_at_the_same_time_count_once():
    both = [at(0, 10, 1, 1), at(5, 10, 1, 1)]
    assert busy(both, "fetch") == 15
    assert overlap(both).fetch == 15
    assert busy([at(0, 10, 1, 1), at(2, 3, 1, 1)], "fetch") == 10


def test_pauses_between_commands_are_no_wall_time_and_processes_add_up():
    first, second = at(0, 10, 1, 1, process="node:1"), at(1000, 10, 1, 1, process="node:2")
    assert by_process([second, first]) == [[first], [second]]
    found = overlap([second, first])
    assert (found.wall, found.fetch) == (24, 20)


@pytest.mark.parametrize(("seconds", "text"), [(0.04, "0.0 s"), (119, "119.0 s"), (750, "12.5 min"), (25920, "7.2 h")])
def test_durations_are_told_in_the_unit_that_fits(seconds, text):
    assert duration(seconds) == text
