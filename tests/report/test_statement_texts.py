"""Texts of a run's statements, read anew."""

import pytest

from jtrace.data.loading import read_all
from jtrace.report.statement_texts import read_texts


def record(statements):
    """What run.json says of a set."""
    return {
        "data": {statements.name: statements.fingerprint},
        "sets": {statements.name: {"source": statements.source}},
    }


def csv(path, first="Sky is blue."):
    path.write_text(f"statement,label\n{first},1\nSky is green.,0\n")
    return read_all([str(path)])[0]


def test_a_set_of_the_world_and_one_in_a_file_are_read_where_they_come_from(tmp_path):
    for statements in (read_all(["world-fairness:seed=3"])[0], csv(tmp_path / "mine.csv")):
        assert read_texts(record(statements), statements.name).texts == statements.texts


def test_a_file_that_is_gone_or_changed_has_no_texts(tmp_path):
    of = record(csv(tmp_path / "mine.csv"))
    csv(tmp_path / "mine.csv", first="Sky is wide.")
    assert read_texts(of, "mine") is None
    (tmp_path / "mine.csv").unlink()
    assert read_texts(of, "mine") is None


def test_a_world_of_another_size_is_told_by_its_fingerprint():
    statements = read_all(["world-fairness:seed=3:people=60"])[0]
    assert read_texts(record(statements), "world-fairness") is None


@pytest.mark.parametrize("source", [None, "", "hub:owner/name@commit", "world:x", "world:", "/dev/zero", "\x00", "."])
def test_nothing_else_is_read(source):
    named = {"source": source}
    of = {"data": {"mine": "0", "world-fairness": "0"}, "sets": {"mine": named, "world-fairness": named}}
    assert read_texts(of, "mine") is None
    assert read_texts(of, "world-fairness") is None
    assert read_texts({"data": {}}, "mine") is None
