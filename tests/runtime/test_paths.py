"""Paths that exist are taken as they are."""

from pathlib import Path

import pytest

from jtrace.runtime.paths import matching, whole


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("x [y]/a.csv", "x [y]/b.csv", "x y/a.csv", "one,two.csv", "p, q/r, s.csv"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    return tmp_path


def test_brackets_of_a_folder_that_exists_are_no_glob(here):
    assert matching("x [y]/a.csv") == ["x [y]/a.csv"]
    assert sorted(matching("x [y]/*.csv")) == ["x [y]/a.csv", "x [y]/b.csv"]
    assert sorted(matching(f"{here}/x [y]/[ab].csv")) == [f"{here}/x [y]/a.csv", f"{here}/x [y]/b.csv"]
    assert sorted(matching("x*/a.csv")) == ["x [y]/a.csv", "x y/a.csv"]
    assert matching("x [z]/*.csv") == matching("nowhere") == []


def test_pieces_of_a_path_with_commas_are_one_again():
    assert whole(["sst2", "one", "two.csv", "toxigen"]) == ["sst2", "one,two.csv", "toxigen"]
    assert whole(["p", "q/r", "s.csv"]) == ["p, q/r, s.csv"]
    assert whole(["one", "three.csv"]) == ["one", "three.csv"]
    assert whole([]) == []
