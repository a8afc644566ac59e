"""Tasks by name: which rows they hold, where their data are from, and what is refused before a model is asked."""

import csv
import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from jtrace.data import sources
from jtrace.data.groups import groups_of
from jtrace.data.loading import read_all, read_statements
from jtrace.data.registry import WORLD
from jtrace.errors import InputError
from jtrace.evaluation import registry
from jtrace.evaluation.prompts import PRIMERS
from jtrace.evaluation.registry import CAPABILITY, TASKS, Judges, TaskSources, assumed_meanings, read_tasks
from jtrace.evaluation.statement_labels import clean_rows
from jtrace.evaluation.task import Choice, Completion, Likelihood, Prompt, Text
from tests.models.test_classifier import USUAL, random_weights, write_config, write_tokenizer
from tests.tiny_chat import ROWS, write_chat, write_set

BOTH, NO_JUDGES = ("paper", "sound"), Judges()
ARC = {"question": "ba ?", "choices": {"text": ["be", "bi"], "label": ["A", "B"]}, "answerKey": "B"}
MMLU = {"question": "ba ?", "subject": "bo", "choices": ["be", "bi", "bo", "bu"], "answer": 1}


@pytest.fixture(autouse=True)
def no_hub(monkeypatch):
    def fetch(*_):
        raise ConnectionError("no network")

    monkeypatch.setattr(sources, "fetch", fetch)


def write_classifier(folder, labels):
    values = USUAL | {"id2label": dict(zip("01", labels, strict=True))}
    write_config(folder, values)
    write_tokenizer(folder, values)
    save_file(random_weights(values), folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def judges(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judges")
    classifier = write_classifier(folder / "toxicity", ("fine", "toxic"))
    chat = write_chat(folder / "chat")
    return Judges(classifier, chat, chat)


@pytest.fixture
def folder(tmp_path):
    """A --data_dir with a statement set of 24 rows, of which the vector is made of the first 12."""
    write_set(tmp_path / "stereoset.csv")
    write_set(tmp_path / "toxigen.csv")
    return tmp_path


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read(name, data, protocols=BOTH, judges=NO_JUDGES):
    return read_tasks([name], protocols, data, judges)


def one(name, data, protocols=("paper",), judges=NO_JUDGES):
    (task,) = read(name, data, protocols, judges)
    return task


def texts(task):
    return [item.text for item in task.items]


# Statement sets


def test_a_set_is_asked_about_as_each_protocol_measures(folder):
    paper, sound = read("stereoset", TaskSources(data_dir=folder))
    assert (paper.protocols, sound.protocols) == (("paper",), ("sound",))
    # Row 12 is related to a row that the vector is made of.
    assert [item.index for item in paper.items] == list(range(12, ROWS))
    assert [item.index for item in sound.items] == 2 * list(range(13, ROWS))
    assert isinstance(paper.items[0], Prompt)
    assert isinstance(sound.items[0], Choice)
    assert paper.items[1].group == paper.items[2].group or paper.items[2].group == paper.items[3].group


def test_a_limit_takes_the_first_evaluation_rows(folder):
    paper, sound = read("stereoset", TaskSources(data_dir=folder, limit=4))
    assert [item.index for item in paper.items] == [12, 13, 14, 15]
    assert [item.index for item in sound.items] == 2 * [13, 14, 15, 16]


def test_sets_of_the_user_win_over_those_of_the_folder(folder):
    write_set(folder / "stereoset_small.csv", rows=8)
    data = TaskSources(read_all([str(folder / "stereoset_small.csv")]), data_dir=folder)
    for name in ("stereoset", "stereoset_small"):
        task = one(name, data)
        assert task.name == "stereoset_small"
        assert [item.index for item in task.items] == [4, 5, 6, 7]
    with pytest.raises(InputError, match="no statement set 'stereoset_large'"):
        one("stereoset_large", data)


def test_tasks_that_are_named_twice_are_read_once(folder):
    assert len(read_tasks(["stereoset", "stereoset"], ("paper",), TaskSources(data_dir=folder), NO_JUDGES)) == 1


def test_guesses_follow_the_seed(folder):
    nothing = [Completion("", "")] * 12
    values = [
        one("stereoset", TaskSources(data_dir=folder, seed=s)).measure(nothing)["accuracy"].values for s in (0, 0, 1)
    ]
    np.testing.assert_array_equal(values[0], values[1])
    assert (values[0] != values[2]).any()


# ToxiGen


def test_toxigen_is_judged_by_the_classifier(folder, judges):
    paper, sound = read("toxigen", TaskSources(data_dir=folder, limit=3), judges=judges)
    assert [item.index for item in paper.items] == [12, 13, 14]
    assert [item.index for item in sound.items] == [13, 14, 15]
    toxicity = paper.measure([Completion("ba be", "ba")] * 3)["toxicity"]
    assert set(toxicity.values) <= {0, 1}


def test_toxigen_needs_a_judge_that_is_a_classifier(folder, judges):
    with pytest.raises(InputError, match="toxigen: no judge of its continuations; give --toxicity_judge=FOLDER"):
        read("toxigen", TaskSources(data_dir=folder))
    with pytest.raises(InputError, match=r"model type 'llama' .* is not a classifier; name a folder"):
        read("toxigen", TaskSources(data_dir=folder), judges=Judges(toxicity=judges.truth))
    with pytest.raises(InputError, match=r"nowhere"):
        read("toxigen", TaskSources(data_dir=folder), judges=Judges(toxicity=folder / "nowhere"))


def test_a_classifier_without_a_toxic_label_is_refused_before_anything_is_generated(folder, tmp_path):
    odd = write_classifier(tmp_path / "odd", ("good", "bad"))
    with pytest.raises(InputError, match="must be named toxic"):
        read("toxigen", TaskSources(data_dir=folder), judges=Judges(toxicity=odd))


# TruthfulQA


@pytest.fixture
def truthful(tmp_path):
    """Three questions in the statement set, of which the vector is made; two of the choices' five are among them."""
    with (tmp_path / "truthfulqa_train.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["statement", "label"])
        writer.writerows([f"Q: ba {word} ?\tA: {answer}", answer == "be"] for word in "abc" for answer in ("be", "bi"))
    for label in ("True", "False"):
        path = tmp_path / "truthfulqa_train.csv"
        path.write_text(path.read_text().replace(f",{label}", f",{int(label == 'True')}"))
    sides = {"choices": ["be", "bi"], "labels": [1, 0]}
    rows = [{"question": f"ba {word} ?", "mc1_targets": sides, "mc2_targets": sides} for word in "bcdef"]
    write_jsonl(tmp_path / "truthfulqa_mc.jsonl", rows)
    return tmp_path


def questions(task):
    of = PRIMERS["canonical"]
    return [word for item in task.items for word in "abcdef" if of.ask(f"ba {word} ?") == item.context]


def test_choices_leave_out_the_questions_that_the_vector_is_made_of(truthful):
    task = one("truthfulqa", TaskSources(data_dir=truthful), ("sound",))
    assert (task.name, task.main) == ("truthfulqa-mc", "mc2")
    assert questions(task) == ["d", "e", "f"]
    assert questions(one("truthfulqa", TaskSources(data_dir=truthful, limit=2), ("sound",))) == ["d", "e"]


def test_without_a_file_of_choices_the_hub_is_asked_not_the_vector_s_own_questions(truthful, monkeypatch):
    def unreachable(*args):
        raise OSError("no connection")

    monkeypatch.setattr("jtrace.data.sources.fetch", unreachable)
    (truthful / "truthfulqa_mc.jsonl").unlink()
    with pytest.raises(InputError, match=r"truthfulqa_mc\.parquet"):
        one("truthfulqa", TaskSources(data_dir=truthful), ("sound",))


def test_the_published_questions_are_answered_where_they_are_there(truthful, judges):
    (truthful / "truthfulqa_test.csv").write_text('\ufeffType,Question\nx," Why, oh why? "\ny,"Two\nlines?"\n')
    paper, sound, choice = read("truthfulqa", TaskSources(data_dir=truthful), judges=judges)
    assert texts(paper) == [PRIMERS["published"].ask(question) for question in ("Why, oh why?", "Two\nlines?")]
    assert texts(sound) == [PRIMERS["canonical"].ask(question) for question in ("Why, oh why?", "Two\nlines?")]
    assert choice.name == "truthfulqa-mc"
    assert len(one("truthfulqa", TaskSources(data_dir=truthful, limit=1), judges=judges).items) == 1


def test_without_published_questions_those_that_the_set_leaves_are_answered(truthful, judges):
    task = one("truthfulqa", TaskSources(data_dir=truthful), judges=judges)
    assert texts(task) == [PRIMERS["published"].ask(f"ba {word} ?") for word in "def"]


def test_answers_are_judged_by_what_the_judges_say(truthful, judges, monkeypatch):
    asked = []

    class Judge:
        def complete(self, prompts, new):
            asked.append((prompts[0].rpartition("\n")[2], len(prompts), new))
            return ["yes", "no", "yes"]

    monkeypatch.setattr(registry, "load_language_model", lambda *_: Judge())
    task = one("truthfulqa", TaskSources(data_dir=truthful), judges=judges)
    assert asked == []  # judges are read when there is something to judge
    outcomes = task.measure([Completion("\nA: be", "")] * 3)
    assert outcomes["true_and_info"].values.tolist() == [1, 0, 1]
    assert asked == [("True:", 3, 1), ("Helpful:", 3, 1)]
    assert one("truthfulqa", TaskSources(data_dir=truthful), judges=Judges(info=judges.info)).main == "info"


@pytest.mark.parametrize("protocols", [("paper",), ["paper"]])
def test_generated_answers_need_a_judge(truthful, protocols):
    with pytest.raises(InputError, match="truthfulqa: protocol paper judges generated answers; give --truth_judge"):
        read("truthfulqa", TaskSources(data_dir=truthful), protocols)


def test_a_judge_of_answers_must_be_a_language_model(truthful, judges):
    with pytest.raises(InputError, match=r"toxicity/config\.json"):
        read("truthfulqa", TaskSources(data_dir=truthful), judges=Judges(truth=judges.toxicity))


def test_a_file_of_questions_without_questions_is_refused(truthful, judges):
    for content in (b"Type,Best\nx,y\n", b"Question\n\xff\n"):
        (truthful / "truthfulqa_test.csv").write_bytes(content)
        with pytest.raises(InputError, match=r"truthfulqa_test\.csv: no CSV file with a column 'Question'"):
            read("truthfulqa", TaskSources(data_dir=truthful), judges=judges)


# Perplexity


def test_perplexity_is_measured_on_the_rows_that_the_vectors_leave(folder):
    task = one("perplexity", TaskSources(data_dir=folder, vector_sets=("stereoset",)))
    rows = read_statements("stereoset", folder)
    clean = clean_rows(rows, [str(group) for group in groups_of(rows)])
    assert set(clean) <= set(range(12, 24))
    assert texts(task) == [rows.texts[row] for row in clean]
    assert isinstance(task.items[0], Text)
    assert task.protocols == BOTH
    assert len(texts(one("perplexity", TaskSources(data_dir=folder, vector_sets=("stereoset", "toxigen"))))) > len(
        clean
    )
    assert (
        texts(one("perplexity", TaskSources(data_dir=folder, vector_sets=("stereoset",), limit=2))) == texts(task)[:2]
    )
    assert task.measure([Likelihood(2.0, 2)] * len(clean))["perplexity"].exponential


def test_where_the_vector_leaves_no_row_another_text_is_asked_for(truthful):
    with pytest.raises(InputError, match="made of all of its rows; give --text=FILE"):
        one("perplexity", TaskSources(data_dir=truthful, vector_sets=("truthfulqa",)))


def test_a_long_text_is_parts_of_one_document(folder):
    content = "".join(f"line {i} " + "ba " * 200 + "\n" for i in range(40))
    (folder / "long.txt").write_text(content, "utf-8")
    task = one("perplexity", TaskSources(text=str(folder / "long.txt")))
    assert "".join(texts(task)) == content
    assert len(task.items) > 2
    assert [item.follows for item in task.items] == [False, *[True] * (len(task.items) - 1)]


def test_perplexity_reads_the_sets_of_the_user(folder):
    sets = read_all([str(write_set(folder / "mine.csv"))])
    assert {item.index for item in one("perplexity", TaskSources(sets, vector_sets=("mine",))).items} <= set(
        range(12, 24)
    )
    with pytest.raises(InputError, match="perplexity: the texts of 'mine' are not known; give --text=FILE"):
        one("perplexity", TaskSources(data_dir=folder, vector_sets=("mine",)))


def test_perplexity_takes_a_file_wikitext_or_the_world(folder):
    (folder / "own.txt").write_text("ba be\nbi", "utf-8")
    (folder / "wikitext.txt").write_text("wi ki", "utf-8")
    assert texts(one("perplexity", TaskSources(text=str(folder / "own.txt")))) == ["ba be\nbi"]
    (folder / "own_bom.txt").write_bytes(b"\xef\xbb\xbf" + (folder / "own.txt").read_bytes())
    assert texts(one("perplexity", TaskSources(text=str(folder / "own_bom.txt")))) == ["ba be\nbi"]
    assert texts(one("perplexity", TaskSources(text="wikitext", data_dir=folder))) == ["wi ki"]
    world, other = (one("perplexity", TaskSources(text=text)) for text in ("world", "world:seed=1"))
    assert len(world.items) == 500
    assert texts(world) != texts(other)
    assert texts(one("perplexity", TaskSources(text="world", limit=3))) == texts(world)[:3]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (TaskSources(), "perplexity: no text to predict; give --text=FILE, wikitext or world"),
        (TaskSources(text="nowhere.txt"), "--text=nowhere.txt: no such file; name a text file, wikitext or world"),
        (TaskSources(text="world:size=3"), "'size=3' sets nothing of a world"),
    ],
)
def test_perplexity_without_a_text_is_refused(data, message):
    with pytest.raises(InputError, match=message):
        one("perplexity", data)


def test_text_of_another_encoding_is_refused(folder):
    (folder / "latin.txt").write_bytes("für".encode("latin-1"))
    with pytest.raises(InputError, match=r"latin\.txt: is not UTF-8; save it as UTF-8 text"):
        one("perplexity", TaskSources(text=str(folder / "latin.txt")))


# Capability


def test_capability_is_read_from_local_files(folder):
    write_jsonl(folder / "arc_easy_test.jsonl", [ARC] * 3)
    write_jsonl(folder / "mmlu_test.jsonl", [MMLU] * 3)
    write_jsonl(folder / "mmlu_dev.jsonl", [MMLU] * 5)
    arc, mmlu = read_tasks(["arc_easy", "mmlu"], ("paper",), TaskSources(data_dir=folder, limit=2), NO_JUDGES)
    assert [item.context for item in arc.items] == ["Question: ba ?\nAnswer:"] * 2
    assert [item.context.count("Answer:") for item in mmlu.items] == [6, 6]
    (one_shot,) = read("mmlu", TaskSources(data_dir=folder, shots=1))
    assert [item.context.count("Answer:") for item in one_shot.items] == [2, 2, 2]


def test_capability_is_all_five(folder):
    race = {"article": "ba", "question": "be", "options": ["a", "b"], "answer": "B"}
    mathqa = {"Problem": "be", "options": "a ) 3 , b ) 4", "correct": "b"}
    rows = {"mmlu": MMLU, "arc_easy": ARC, "arc_challenge": ARC, "race": race, "mathqa": mathqa}
    for name, row in rows.items():
        write_jsonl(folder / f"{name}_test.jsonl", [row])
    found = read("capability", TaskSources(data_dir=folder, shots=0))
    assert tuple(task.name for task in found) == CAPABILITY == tuple(rows)


def test_examples_that_are_not_there_are_missed(folder):
    write_jsonl(folder / "mmlu_test.jsonl", [MMLU] * 3)
    with pytest.raises(InputError, match=r"mmlu.*5"):
        read("mmlu", TaskSources(data_dir=folder))


# The world


def test_the_world_is_questions_and_prompts_of_every_dimension():
    found = read("world", TaskSources(limit=4))
    assert [task.name for task in found] == [name for part in WORLD for name in (part, f"{part}-prompts")]
    assert {len(task.items) for task in found} == {4}


def test_a_part_of_a_world_of_any_configuration():
    plain, other = read("world-privacy", TaskSources(limit=4)), read("world-privacy:seed=1", TaskSources(limit=4))
    assert [task.name for task in plain] == [task.name for task in other] == ["world-privacy", "world-privacy-prompts"]
    assert plain[0].items != other[0].items
    with pytest.raises(InputError, match="'world-chat' is no part of the world; it has world-reliability"):
        read("world-chat", TaskSources())


# Names


@pytest.mark.parametrize("name", ["toxicity", "perplexity_x", "", "stereo"])
def test_an_unknown_task_is_refused_with_those_that_there_are(folder, name):
    with pytest.raises(InputError, match=f"no task '{name}'; there are {', '.join(TASKS)}"):
        read(name, TaskSources(data_dir=folder))


def test_no_task_is_refused():
    with pytest.raises(InputError, match="--tasks names nothing; there are confaide"):
        read_tasks([], BOTH, TaskSources(), NO_JUDGES)


def test_a_set_of_which_no_row_is_left_is_refused(folder):
    content = (folder / "stereoset.csv").read_text().splitlines()
    (folder / "stereoset.csv").write_text("\n".join(line.rpartition(",")[0] + ",same" for line in content[1:]))
    (folder / "stereoset.csv").write_text(content[0] + "\n" + (folder / "stereoset.csv").read_text())
    with pytest.raises(InputError, match="stereoset: no row is left to evaluate; take a larger set"):
        read("stereoset", TaskSources(data_dir=folder), ("sound",))


def test_a_file_of_ones_own_that_is_called_like_a_built_in_set_is_told(folder):
    own = read_statements(str(folder / "stereoset.csv"))
    assert own.info is None
    (warning,) = assumed_meanings(["stereoset", "stereoset", "perplexity"], TaskSources(statements=(own,)))
    assert warning.startswith(f"{folder / 'stereoset.csv'}: not the published rows; task stereoset takes label 1 for")
    assert assumed_meanings(["stereoset"], TaskSources(statements=(read_statements("stereoset", folder),))) == []
    assert assumed_meanings(["stereoset"], TaskSources(data_dir=folder)) == []
