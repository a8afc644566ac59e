"""`jtrace harness`: lm-eval's own command, among whose models jtrace's decoder is."""

import json
import sys

import pytest

from jtrace.commands import harness
from jtrace.errors import InputError
from tests.tiny_harness import arc_task, write_model


@pytest.fixture(autouse=True)
def words(monkeypatch):
    """The command line is put back, which lm-eval reads."""
    monkeypatch.setattr(sys, "argv", ["jtrace"])


def test_the_words_are_lm_eval_s_once_the_model_is_known_to_it(monkeypatch):
    from lm_eval import __main__ as program
    from lm_eval.api.registry import get_model

    asked = []
    monkeypatch.setattr(program, "cli_evaluate", lambda: asked.append((sys.argv, get_model("jtrace").__name__)))
    assert harness.main(["ls", "tasks"]) == 0
    assert asked == [(["lm-eval", "ls", "tasks"], "JtraceModel")]


def test_without_lm_eval_the_extra_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "jtrace.api.lm_eval_model", raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == "lm_eval"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=r"lm-eval is not installed; .* pip install 'jtrace\[lm-eval\]'"):
        harness.main(["ls", "tasks"])


def test_another_module_that_is_missing_is_no_matter_of_the_extra(monkeypatch):
    monkeypatch.delitem(sys.modules, "jtrace.api.lm_eval_model", raising=False)
    monkeypatch.setitem(sys.modules, "jtrace.api.model", None)
    with pytest.raises(ModuleNotFoundError, match=r"jtrace\.api\.model"):
        harness.main(["ls", "tasks"])


@pytest.mark.slow
def test_a_task_is_asked_and_its_results_written(tmp_path):
    task, model = arc_task(tmp_path / "tasks"), write_model(tmp_path / "model")
    wanted = ["--limit", "3", "--output_path", str(tmp_path / "results")]
    arguments = ["--model_args", f"checkpoint={model},dtype=float32"]
    assert harness.main(["run", "--model", "jtrace", "--tasks", str(task), *arguments, *wanted]) == 0
    (file,) = (tmp_path / "results").rglob("results_*.json")
    written = json.loads(file.read_text())
    assert written["results"]["tiny_arc"]["acc,none"] in (0, 1 / 3, 2 / 3, 1)
    assert written["n-samples"]["tiny_arc"]["effective"] == 3
    assert written["config"]["checkpoint"] == str(model)
