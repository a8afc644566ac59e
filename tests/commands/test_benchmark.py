"""`jtrace benchmark`: what its flags ask for, its report, and what is refused before anything is measured."""

import json
import sys
from pathlib import Path

import pytest
from absl import flags

from jtrace.benchmark.runner import USUAL, select, write_setting
from jtrace.benchmark.workload import JTRACE, Setting
from jtrace.commands import benchmark as command
from jtrace.errors import InputError
from tests.conftest import GOLDENS, letter_tokenizer

MODEL = GOLDENS / "llama-full"


def run(*words):
    """The command's status, with sub-benchmarks and flags as on a command line."""
    command.FLAGS.unparse_flags()
    try:
        _, *names = command.FLAGS(["benchmark", *words])
        return command.main(names)
    finally:
        for flag in command.FLAGS:
            command.FLAGS[flag].unparse()


@pytest.fixture
def statements(tmp_path):
    (tmp_path / "mine.csv").write_text("statement,label\n" + "".join(f"row {i},{i % 2}\n" for i in range(30)))
    return tmp_path / "mine.csv"


@pytest.fixture
def measured(monkeypatch):
    """In place of the measurements: what they are asked for, and a report without any result."""
    calls = []

    def run_all(setting, cases, start, turns, keep):
        calls.append((setting, [case.name for case in cases], start, turns, setting.checkpoint.is_dir()))
        report = {"results": [], "agreements": [], "failed": {}, "devices": {}}
        keep(report)
        return report

    monkeypatch.setattr(command, "find_spec", lambda name: object())
    monkeypatch.setattr(command, "start_process", lambda line: line)
    monkeypatch.setattr(command, "run_all", run_all)
    monkeypatch.setattr(command, "lines", lambda report: [])
    return calls


def test_flags_are_what_is_measured_and_the_report_is_written(measured, statements, tmp_path):
    out = tmp_path / "report.json"
    words = ["load", "sweep", f"--checkpoint={MODEL}", f"--tokenizer={tmp_path}", f"--statements={statements}"]
    words += ["--dtype=bfloat16", "--rounds=2", "--turns=3", "--limit=25", "--sample=4", "--max_new_tokens=5"]
    assert run(*words, "--prompts=6", f"--data_dir={tmp_path}", f"--out={out}") == 0
    ((setting, names, start, turns, _),) = measured
    assert setting == Setting(MODEL, tmp_path, (str(statements),), tmp_path, "bfloat16", 2, 25, 4, 5, 6)
    assert (names, turns) == (["load", "sweep"], 3)
    assert start == [sys.executable, "-P", "-m", "jtrace", "benchmark", "load", "sweep"]
    assert json.loads(out.read_text())["results"] == []


def test_without_names_the_usual_cases_are_measured(measured, statements, tmp_path):
    assert run(f"--checkpoint={MODEL}", f"--statements={statements}", f"--out={tmp_path}/report.json") == 0
    ((setting, names, *_),) = measured
    assert names == [case.name for case in select([])]
    assert set(names) <= set(USUAL)
    assert setting.tokenizer == MODEL


def test_weights_of_a_shape_are_there_while_it_is_measured(measured, statements, tmp_path, capsys):
    work = tmp_path / "work"
    work.mkdir()
    letter_tokenizer(tmp_path)
    words = ["load", "--shape=tiny", f"--tokenizer={tmp_path}", f"--statements={statements}", f"--work={work}"]
    assert run(*words, f"--out={tmp_path}/report.json") == 0
    ((setting, *_, was_there),) = measured
    assert was_there
    assert setting.checkpoint.is_relative_to(work)
    assert list(work.iterdir()) == []
    assert f"writing random weights of tiny to {setting.checkpoint}" in capsys.readouterr().out


def test_a_bar_that_does_not_hold_is_told_and_the_report_kept(measured, statements, tmp_path, monkeypatch):
    out = tmp_path / "report.json"
    row = {"case": "load", "name": "tensors", "value": 2.0, "bar": 0.0, "holds": False}
    report = {"results": [], "agreements": [row], "failed": {}}
    monkeypatch.setattr(command, "run_all", lambda *arguments: arguments[-1](report) or report)
    with pytest.raises(InputError, match=r"load: tensors is 2, over its bar of 0; see .*report\.json"):
        run("load", f"--checkpoint={MODEL}", f"--statements={statements}", f"--out={out}")
    assert json.loads(out.read_text()) == report


def test_a_contender_s_process_measures_what_the_setting_says(tmp_path, capsys):
    setting = Setting(MODEL, MODEL, (), None, "float32", rounds=1, limit=None, sample=None, new_tokens=1, prompts=1)
    write_setting(setting, tmp_path / "setting.json")
    assert run("load", f"--contender={JTRACE}", f"--setting={tmp_path}/setting.json") == 0
    result = json.loads((tmp_path / "load-jtrace.json").read_text())
    assert result["units"] == (MODEL / "model.safetensors").stat().st_size
    assert len(result["turns"][0]) == 1
    assert capsys.readouterr().out.split()[:2] == ["load", "jtrace"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing"], "nothing"),
        (["--contender=jtrace"], "--contender and --setting are internal and go together; leave them out"),
        (["--checkpoint=x"], "--out is missing; name a JSON file for the report"),
        (["--out=x.json"], "give either --checkpoint or --shape"),
        (["--out=x.json", "--checkpoint=x", "--shape=tiny"], "give either --checkpoint or --shape"),
        (["--out=x.json", "--shape=tiny"], "--shape has no tokeniser; name a folder that has one by --tokenizer"),
        (["--out=x.json", "--checkpoint=nowhere"], "nowhere"),
        (["--out=x.json", f"--checkpoint={MODEL}", "--statements=nowhere.csv"], "nowhere.csv"),
    ],
)
def test_what_cannot_be_measured_is_one_line(measured, words, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((InputError, flags.Error), match=message):
        run(*words)
    assert measured == []
    assert not Path("x.json").exists()


def test_without_torch_the_extra_is_named(measured, monkeypatch):
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs torch and scikit-learn; install them by pip install -e '\.\[torch\]'"):
        run(f"--checkpoint={MODEL}", "--out=x.json")
