"""Bars that nobody can see are told of in lines."""

import re
import time

import pytest

from jtrace.runtime.progress import Bar, progress_lines


def test_where_there_is_no_terminal_a_line_tells_of_all_bars_that_are_at_work(capsys):
    with progress_lines(0.05), Bar(total=3, desc="sweep", unit=" checkpoints") as sweep:
        sweep.update()
        with Bar(total=30, desc="[2/3] tiny", unit=" layers") as layers:
            layers.update(12)
            time.sleep(0.3)
    time.sleep(0.1)
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert 2 <= len(lines) <= 6
    outer, inner = lines[0].split("; ")
    assert re.fullmatch(r"sweep: 1 of 3 checkpoints, 00:00 so far, 00:0\d left", outer)
    assert inner == "[2/3] tiny: 12 of 30 layers, 00:00 so far, 00:00 left"


def test_without_a_label_and_without_work_nothing_is_said(capsys):
    with progress_lines(0.02):
        for _ in Bar([1, 2], None):
            time.sleep(0.05)
        assert list(Bar([1, 2], "done")) == [1, 2]
        time.sleep(0.05)
    assert capsys.readouterr().err == ""


def test_a_bar_goes_when_its_block_fails():
    with pytest.raises(ZeroDivisionError), Bar(total=1, desc="work"):
        1 / (len(Bar.at_work) - 1)
    assert not Bar.at_work
