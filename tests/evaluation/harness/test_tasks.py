"""lm-eval's tasks under conditions: asked together, judged by lm-eval, and in the steering tables."""

import sys

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from jtrace.errors import InputError
from jtrace.evaluation.answers import Decoding, ask
from jtrace.evaluation.harness import tasks as harness_tasks
from jtrace.evaluation.harness.model import HarnessModel
from jtrace.evaluation.harness.tasks import read_harness_tasks
from jtrace.evaluation.outcomes import estimate
from jtrace.evaluation.registry import Judges, TaskSources, read_tasks
from jtrace.evaluation.task import Choice, Prompt
from jtrace.inference.language_model import load_language_model
from jtrace.steering.conditions import SteerConfig
from jtrace.steering.experiment import check_steering, steer
from jtrace.steering.vector import Condition, SteeringVector, edit_of
from tests.tiny_harness import (
    arc_task,
    evaluated,
    generation_task,
    metrics,
    mmlu_task,
    perplexity_task,
    write_model,
    write_task,
)

DEPTH, WIDTH = 3, 24
values = np.random.default_rng(0).normal(size=(DEPTH, WIDTH)).astype(np.float32)
VECTOR = SteeringVector(values, (0, 1, 2), "step1", "mine")
EDIT = edit_of(VECTOR, [Condition((1,), -2.0), Condition((1,), 2.0)])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_language_model(write_model(tmp_path_factory.mktemp("models") / "tiny"), "tiny", jnp.float32)


def measured(model, task, positions="last"):
    """Each condition's metrics."""
    answers = ask(model, task, EDIT, (0, 1, 2), Decoding(positions))
    return [{name: estimate(o) for name, o in task.measure(of_one).items()} for of_one in answers]


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(mmlu_task, marks=pytest.mark.slow),
        arc_task,
        generation_task,
        perplexity_task,
    ],
)
def test_metrics_under_each_condition_are_those_that_lm_eval_makes_of_it_alone(tmp_path, model, write):
    path = str(write(tmp_path, rows=6))
    (task,) = read_harness_tasks(path, None, None)
    together = measured(model, task)
    for condition in (0, 2):
        ours = together[condition]
        alone = HarnessModel(model, EDIT, [condition])
        found = evaluated(alone, [path])["results"][task.name.partition(":")[2]]
        expected = {name.removesuffix(",none"): v for name, v in found.items() if "," in name and "stderr" not in name}
        assert ours == pytest.approx(expected, rel=1e-6)
    assert together[0] != together[1] or write is mmlu_task


def test_a_run_has_a_row_for_every_metric_and_a_second_run_asks_nothing(tmp_path, model, monkeypatch):
    for write in (arc_task, generation_task):
        write(tmp_path / "tasks")
    tasks = read_tasks([f"lm-eval:{tmp_path / 'tasks'}"], ("paper",), TaskSources(limit=5), Judges())
    config = SteerConfig((0.0, 2.0), ((1,),))
    check_steering(model, [VECTOR], tasks, config)
    (tmp_path / "steering").mkdir()

    def run():
        return steer(tmp_path / "steering", model, [VECTOR], tasks, config, "weights", quiet=True)

    rows = run()
    assert sorted(set(rows["task"])) == ["lm-eval:tiny_arc", "lm-eval:tiny_generation"]
    assert set(rows["metric"]) == {
        *("acc", "acc_norm", "difference_acc"),
        *("exact_match,first", "exact_match,whole", "difference_exact_match,first"),
    }
    assert set(rows["n"]) == {5}
    assert rows[rows["metric"] == "acc"]["ci_low"].notna().all()
    lines = [line for file in (tmp_path / "completions").glob("*.jsonl") for line in file.read_text().splitlines()]
    assert len(lines) == 5 * 2
    monkeypatch.setattr(HarnessModel, "__init__", None)
    pd.testing.assert_frame_equal(run(), rows, check_dtype=False)


def test_the_first_documents_are_asked(tmp_path):
    path = str(generation_task(tmp_path))
    whole, some = (read_harness_tasks(path, limit, None)[0] for limit in (None, 3))
    assert some.items == whole.items[:3]
    assert all(isinstance(item, Prompt) for item in some.items)
    assert whole.max_new_tokens == 40


def test_a_task_that_is_read_again_has_the_same_key_and_another_one_another(tmp_path):
    one, again = (read_harness_tasks(str(arc_task(tmp_path)), None, None)[0].key for _ in range(2))
    assert one == again
    assert read_harness_tasks(str(arc_task(tmp_path, metadata={"version": 2.0})), None, None)[0].key != one


def test_a_file_of_several_ways_to_end_has_completions_of_its_own(tmp_path):
    texts = [
        repr(read_harness_tasks(str(generation_task(tmp_path, generation_kwargs=given)), 1, None)[0].asker)
        for given in ({"until": ["e"]}, {"until": ["a"]}, {"until": ["e"], "do_sample": True, "temperature": 0.5})
    ]
    assert len(set(texts)) == 3


def test_examples_are_as_many_as_asked_for_but_none_where_the_task_says_none(tmp_path):
    def context(write, shots, **settings):
        return read_harness_tasks(str(write(tmp_path, **settings)), 1, shots)[0].items[0].context

    assert context(mmlu_task, None).count("A:") == 3
    assert context(mmlu_task, 1).count("A:") == 2
    assert context(mmlu_task, 1, num_fewshot=0).count("A:") == 1


def test_a_temperature_that_is_asked_for_wins_over_the_task_s(tmp_path, model):
    (task,) = read_harness_tasks(str(generation_task(tmp_path, rows=3)), None, None)
    greedy, *samples = (
        ask(model, task, EDIT, (0,), Decoding(temperature=temperature, seed=seed))[0]
        for temperature, seed in ((0.0, 0), (5.0, 0), (5.0, 0), (5.0, 1))
    )
    assert samples[0] == samples[1]
    assert len({repr(answers) for answers in (greedy, *samples)}) == 3


def test_answers_behind_contexts_of_their_own_are_whole_texts_in_an_item(tmp_path):
    """A document like WinoGrande's: two beginnings, and the sentence that goes on from either."""
    rows = [{"beginnings": ["the cat", "the dogs"], "end": "sat on a mat", "answer": at % 2} for at in range(3)]
    path = write_task(
        tmp_path,
        "tiny_winogrande",
        rows,
        output_type="multiple_choice",
        doc_to_text="answer",
        doc_to_choice="{{beginnings}}",
        doc_to_target="{{end}}",
        metric_list=metrics("acc"),
    )
    (task,) = read_harness_tasks(str(path), None, None)
    assert task.items[0] == Choice(0, "", ("the cat sat on a mat", "the dogs sat on a mat"))
    # The second is the answer of the second row alone.
    judged = task.measure([[(-9.0, False), (-1.0, False)]] * 3)
    assert judged["acc"].values.tolist() == [0, 1, 0]


def test_a_text_that_nothing_stands_before_needs_a_token_there(tmp_path):
    bare = load_language_model(write_model(tmp_path / "model"), "tiny", jnp.float32)
    bare.tokenizer.eos_token = None
    (task,) = read_harness_tasks(str(perplexity_task(tmp_path)), 1, None)
    with pytest.raises(InputError, match="no token that begins or ends a text"):
        check_steering(bare, [VECTOR], [task], SteerConfig((1.0,)))


def test_a_metric_that_is_better_the_other_way_than_jtrace_knows_is_refused(tmp_path):
    upside_down = [{"metric": "acc", "aggregation": "mean", "higher_is_better": False}]
    with pytest.raises(InputError, match="lm-eval:tiny_arc: acc is better where it is lower, not here"):
        read_harness_tasks(str(arc_task(tmp_path, metric_list=upside_down)), None, None)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"repeats": 3}, "asks every document several times"),
        ({"generation_kwargs": {"until": ["e"], "num_beams": 4}}, "generation_kwargs has num_beams=4; jtrace takes"),
        ({"unsafe_code": True}, "runs code that a model wrote"),
    ],
)
def test_what_jtrace_does_not_do_is_said_in_a_line(tmp_path, settings, said):
    with pytest.raises(InputError, match=f"^lm-eval:tiny_generation: {said}"):
        read_harness_tasks(str(generation_task(tmp_path, **settings)), None, None)


def test_a_task_whose_documents_end_completions_in_unlike_ways_is_refused(tmp_path, monkeypatch):
    instances = harness_tasks._instances

    def unlike(*args):
        made = instances(*args)
        context, generation = made[1].arguments
        made[1].arguments = (context, generation | {"until": ["a"]})
        return made

    monkeypatch.setattr(harness_tasks, "_instances", unlike)
    with pytest.raises(InputError, match="documents have other generation_kwargs; jtrace takes tasks of one"):
        read_harness_tasks(str(generation_task(tmp_path)), None, None)


def test_a_task_of_several_output_types_is_refused(tmp_path, monkeypatch):
    instances = harness_tasks._instances

    def mixed(*args):
        found = instances(*args)
        found[0].request_type = "generate_until"
        return found

    monkeypatch.setattr(harness_tasks, "_instances", mixed)
    with pytest.raises(InputError, match=r"asks in several ways \(generate_until, loglikelihood\); jtrace takes tasks"):
        read_harness_tasks(str(arc_task(tmp_path)), None, None)


def test_what_is_no_task_is_said_in_a_line(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.yaml: no such file"):
        read_harness_tasks(str(tmp_path / "nowhere.yaml"), None, None)
    with pytest.raises(InputError, match="the folder holds no task"):
        read_harness_tasks(str(tmp_path), None, None)
    gone = write_task(tmp_path, "gone", [{"a": 1}], output_type="multiple_choice")
    (tmp_path / "gone.jsonl").unlink()
    with pytest.raises(InputError, match=r"lm-eval cannot load it \(.*gone\.jsonl"):
        read_harness_tasks(str(gone), None, None)


@pytest.mark.slow
def test_an_unknown_name_is_told_with_those_that_are_near():
    with pytest.raises(InputError, match=r"lm-eval:arc_eazy: lm-eval has no task of this name; did you mean arc_easy"):
        read_harness_tasks("arc_eazy", None, None)


def test_without_lm_eval_the_extra_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("jtrace.evaluation.harness.")]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.partition(".")[0] == "lm_eval"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        InputError, match=r"lm-eval:arc_easy: lm-eval is not installed; .* pip install 'jtrace\[lm-eval"
    ):
        read_tasks(["lm-eval:arc_easy"], ("paper",), TaskSources(), Judges())


def test_completions_leave_room_for_a_context(tmp_path, model):
    given = {"until": ["e"], "max_gen_toks": model.config.context}
    (task,) = read_harness_tasks(str(generation_task(tmp_path, generation_kwargs=given)), None, None)
    with pytest.raises(InputError, match="completions of up to 256 tokens leave no room in a context of 256"):
        check_steering(model, [VECTOR], [task], SteerConfig((1.0,)))
