"""The tutorial notebook, run from nothing."""

import re

import pytest

from tests.conftest import ROOT

NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"


def shown(cell):
    """The outputs of a cell, without what libraries say on standard error."""
    return [output for output in cell.outputs if output.get("name") != "stderr"]


@pytest.mark.slow
def test_it_runs_from_nothing_and_its_outputs_are_small(tmp_path, monkeypatch):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("XLA_FLAGS", "")  # it computes for longer than hasty compilation saves
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    kept = [shown(cell) for cell in notebook.cells if cell.cell_type == "code"]

    nbclient.NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(tmp_path)}}).execute()

    made = [shown(cell) for cell in notebook.cells if cell.cell_type == "code"]
    assert [bool(outputs) for outputs in made] == [bool(outputs) for outputs in kept]
    assert not any(output.output_type == "error" for outputs in made for output in outputs)
    assert NOTEBOOK.stat().st_size < 200_000


def test_it_names_no_machine():
    assert not re.search(r"/home/|/root/|/tmp/|/usr/", NOTEBOOK.read_text(encoding="utf-8"))
