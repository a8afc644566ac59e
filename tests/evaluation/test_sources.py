"""Rows of small files with the hub's columns become questions, or one line names the file and the row."""

import csv
import json
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from jtrace.data import sources
from jtrace.errors import InputError
from jtrace.evaluation.sources import SOURCES, read_capability, read_truthfulqa_choices, read_wikitext

ROWS = {
    "mmlu": {"question": "2 + 2 = ?", "subject": "algebra", "choices": ["3", "4", "5", "6"], "answer": 1},
    "arc_easy": {
        "id": "Mercury_1",
        "question": "What do plants need?",
        "choices": {"text": ["sand", "light", "wind"], "label": ["A", "B", "C"]},
        "answerKey": "B",
    },
    "race": {
        "example_id": "high1.txt",
        "article": "Ann met a fox.",
        "question": "Ann met _ .",
        "options": ["a dog", "a fox", "nobody", "an owl"],
        "answer": "B",
    },
    "mathqa": {
        "Problem": "what is 2 + 2 ?",
        "Rationale": "it is 4",
        "options": "a ) 3 , b ) 4 , c ) 1 , 000 , d ) ( 5 ) , e ) none of these",
        "correct": "b",
        "category": "general",
    },
}
ROWS["arc_challenge"] = ROWS["arc_easy"]
WRONG_ANSWERS = {
    "mmlu": ("answer", 4, "answer '4' is none of 0, 1, 2, 3"),
    "arc_easy": ("answerKey", "D", "answerKey 'D' is none of A, B, C"),
    "race": ("answer", "E", "answer 'E' is none of A, B, C, D"),
    "mathqa": ("correct", "f", "correct 'f' is none of a, b, c, d, e"),
}


def write(path: Path, rows: list[dict]) -> Path:
    """A file of the rows, in the format that its name ends in."""
    if path.suffix == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), "utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            for row in rows:
                writer.writerow(
                    {key: json.dumps(value) if isinstance(value, list | dict) else value for key, value in row.items()}
                )
    return path


@pytest.fixture(autouse=True)
def no_hub(monkeypatch):
    def fetch(repository, revision, file, cache_dir):
        raise ConnectionError("no network")

    monkeypatch.setattr(sources, "fetch", fetch)


def error_of(read, *arguments) -> str:
    """The message of the InputError that reading ends in: one line."""
    with pytest.raises(InputError) as caught:
        read(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Local files


@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "json", "csv"])
@pytest.mark.parametrize("task", ROWS)
def test_a_split_is_read_from_any_format(tmp_path, task, suffix):
    write(tmp_path / f"{task}_test.{suffix}", [ROWS[task], ROWS[task]])
    write(tmp_path / f"{task}_dev.{suffix}", [ROWS[task]])

    test, dev = read_capability(task, tmp_path, None)

    assert [question.index for question in test] == [0, 1]
    assert len(dev) == 1
    assert dev[0] == test[0]
    assert test[0].right == 1
    assert test[0].choices[1] == {"mmlu": "4", "race": "a fox", "mathqa": "4"}.get(task, "light")
    assert test[0].stem == ROWS[task].get("question", ROWS[task].get("Problem"))


def test_questions_keep_what_else_their_task_needs(tmp_path):
    for task, row in ROWS.items():
        write(tmp_path / f"{task}_test.jsonl", [row])

    (mmlu,), _ = read_capability("mmlu", tmp_path, None)
    (race,), _ = read_capability("race", tmp_path, None)

    assert mmlu.subject == "algebra"
    assert race.context == race.group == "Ann met a fox."


def test_mmlu_may_lack_subjects(tmp_path):
    write(tmp_path / "mmlu_test.jsonl", [{key: value for key, value in ROWS["mmlu"].items() if key != "subject"}])

    (question,), _ = read_capability("mmlu", tmp_path, None)

    assert question.subject == ""


def test_arc_takes_its_own_labels_which_may_be_digits(tmp_path):
    choices = {"text": ["sand", "light"], "label": ["1", "2"]}
    write(tmp_path / "arc_easy_test.parquet", [ROWS["arc_easy"] | {"choices": choices, "answerKey": "2"}])

    (question,), _ = read_capability("arc_easy", tmp_path, None)

    assert question.right == 1


def test_rows_with_an_empty_question_or_answer_are_left_out_with_a_warning(tmp_path, caplog):
    rows = [
        ROWS["race"],
        ROWS["race"] | {"options": ["a", " ", "c", "d"]},
        ROWS["race"] | {"question": ""},
        ROWS["race"],
    ]
    write(tmp_path / "race_test.jsonl", rows)

    test, _ = read_capability("race", tmp_path, None)

    assert [question.index for question in test] == [0, 3]
    assert "race_test.jsonl: 2 rows left out" in caplog.text


def test_a_test_file_without_a_dev_file_has_no_examples_and_asks_no_hub(tmp_path):
    write(tmp_path / "race_test.jsonl", [ROWS["race"]])

    assert read_capability("race", tmp_path, None)[1] == ()


# The hub


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Put rows where the hub has a split's file; what is asked of the hub is returned."""
    asked = []

    def fetch(repository, revision, file, cache_dir):
        asked.append((repository, revision, file, cache_dir))
        path = tmp_path / "hub" / repository / file
        if not path.is_file():
            raise FileNotFoundError(f"404 for {file}")
        return str(path)

    def served(name: str, split: str, rows: list[dict]) -> list:
        path = tmp_path / "hub" / SOURCES[name].repository / SOURCES[name].files[split]
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, rows)
        return asked

    monkeypatch.setattr(sources, "fetch", fetch)
    return served


@pytest.mark.parametrize("task", ROWS)
def test_without_local_files_both_splits_come_from_the_hub(tmp_path, served, task):
    served(task, "test", [ROWS[task], ROWS[task]])
    asked = served(task, "dev", [ROWS[task]])

    for data_dir in (None, tmp_path):
        test, dev = read_capability(task, data_dir, tmp_path / "cache")
        assert (len(test), len(dev)) == (2, 1)

    source = SOURCES[task]
    assert asked == 2 * [
        (source.repository, source.revision, source.files[split], tmp_path / "cache") for split in ("test", "dev")
    ]


def test_local_files_win(tmp_path, served):
    asked = served("mmlu", "test", [ROWS["mmlu"]])
    write(tmp_path / "mmlu_test.jsonl", [ROWS["mmlu"] | {"question": "Mine?"}])

    (question,), _ = read_capability("mmlu", tmp_path, None)

    assert question.stem == "Mine?"
    assert asked == []


def test_a_file_that_the_hub_does_not_give_is_named_with_a_way_out(served):
    served("mathqa", "test", [ROWS["mathqa"]])

    message = error_of(read_capability, "mathqa", None, None)

    assert message == (
        "mathqa: cannot load data/validation-00000-of-00001.parquet of hub:regisss/math_qa@main (FileNotFoundError: "
        "404 for data/validation-00000-of-00001.parquet); check the connection, or give --data_dir=FOLDER with "
        "mathqa_dev.parquet in it"
    )


def test_a_bad_row_of_the_hub_is_named(served):
    served("arc_easy", "test", [ROWS["arc_easy"], ROWS["arc_easy"] | {"answerKey": "4"}])

    message = error_of(read_capability, "arc_easy", None, None)

    assert "ARC-Easy/test-00000-of-00001.parquet of hub:allenai/ai2_arc@210d026f" in message
    assert ", row 2: answerKey '4' is none of A, B, C; " in message


# Bad input


@pytest.mark.parametrize("task", WRONG_ANSWERS)
def test_an_unknown_answer_is_named_with_file_and_row(tmp_path, task):
    column, answer, complaint = WRONG_ANSWERS[task]
    path = write(tmp_path / f"{task}_test.jsonl", [ROWS[task], ROWS[task] | {column: answer}])

    assert error_of(read_capability, task, tmp_path, None).startswith(f"{path}, row 2: {complaint}; ")


@pytest.mark.parametrize("task", WRONG_ANSWERS)
def test_a_missing_column_is_named_with_the_columns_there_are(tmp_path, task):
    column, *_ = WRONG_ANSWERS[task]
    row = {key: value for key, value in ROWS[task].items() if key != column}
    path = write(tmp_path / f"{task}_test.parquet", [row])

    complaint = f"{path}, row 1: no column {column!r}; there are {', '.join(row)}; "
    assert error_of(read_capability, task, tmp_path, None).startswith(complaint)


@pytest.mark.parametrize(
    ("task", "changes", "complaint"),
    [
        ("race", {"answer": ""}, "answer '' is none of A, B, C, D"),
        ("mathqa", {"correct": "ab"}, "correct 'ab' is none of a, b, c, d, e"),
        ("mmlu", {"question": None}, "question is not text"),
        ("mmlu", {"choices": "a, b"}, "choices is no JSON"),
        ("mmlu", {"choices": ["alone"]}, "choices is not a list of two texts or more"),
        ("race", {"options": ["a", None]}, "options is not a list of two texts or more"),
        ("arc_easy", {"choices": ["a", "b"]}, "choices is not an object with text and label"),
        ("arc_easy", {"choices": {"text": ["a", "b"]}}, "no column 'label'; there are text"),
        ("arc_easy", {"choices": {"text": ["a", "b"], "label": ["A", "B", "C"]}}, "choices has 2 texts for 3 labels"),
        ("mathqa", {"options": "3, 4 or 5"}, "options '3, 4 or 5' are not written as 'a ) …, b ) …'"),
    ],
)
def test_a_bad_cell_is_named_with_file_and_row(tmp_path, task, changes, complaint):
    path = write(tmp_path / f"{task}_test.json", [ROWS[task] | changes])

    assert error_of(read_capability, task, tmp_path, None).startswith(f"{path}, row 1: {complaint}")


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("mmlu_test.parquet", b"PAR1", "cannot be read ("),
        ("mmlu_test.jsonl", b'{"question": ', "cannot be read (Expecting value"),
        ("mmlu_test.jsonl", b"[1]\n", "cannot be read (not a list of objects)"),
        ("mmlu_test.jsonl", b"\xff", "cannot be read ('utf-8' codec"),
        ("mmlu_test.json", b'{"question": "?"}', "cannot be read (not a list of objects)"),
        (
            "mmlu_test.csv",
            b'question,answer\n"2, 3"\n',
            "cannot be read (row 1 has more or fewer fields than the header)",
        ),
        (
            "mmlu_test.csv",
            b"question,answer\n1,2,3\n",
            "cannot be read (row 1 has more or fewer fields than the header)",
        ),
        ("mmlu_test.csv", b"question,answer\n", "is empty"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, name, content, complaint):
    (tmp_path / name).write_bytes(content)

    assert error_of(read_capability, "mmlu", tmp_path, None).startswith(f"{tmp_path / name}: {complaint}")


def test_a_folder_without_the_test_split_is_named(tmp_path):
    write(tmp_path / "mmlu_dev.jsonl", [ROWS["mmlu"]])

    message = error_of(read_capability, "mmlu", tmp_path, None)

    assert message.startswith(f"{tmp_path}: has a mmlu_dev file but no mmlu_test file; ")


def test_unknown_tasks_and_folders_are_named(tmp_path):
    message = error_of(read_capability, "wikitext", None, None)

    assert message == "no capability task 'wikitext'; there are mmlu, arc_easy, arc_challenge, race, mathqa"
    assert error_of(read_capability, "mmlu", tmp_path / "none", None).startswith(f"{tmp_path / 'none'}: no such folder")


# WikiText-2 and TruthfulQA's choices


def test_wikitext_rows_with_their_own_line_ends_are_joined_as_they_are(served):
    served("wikitext", "test", [{"text": row} for row in ("", " = Title = \n", "", " A sentence . \n")])

    assert read_wikitext(None, None) == " = Title = \n A sentence . \n"


def test_wikitext_rows_without_line_ends_are_joined_by_them(tmp_path):
    write(tmp_path / "wikitext_test.parquet", [{"text": row} for row in ("one", "", "two")])

    assert read_wikitext(tmp_path, None) == "one\n\ntwo"


def test_a_wikitext_text_file_is_taken_whole(tmp_path):
    (tmp_path / "wikitext.txt").write_bytes("one\r\n\n ‘two’".encode())

    assert read_wikitext(tmp_path, None) == "one\r\n\n ‘two’"


def test_a_bad_wikitext_is_named(tmp_path):
    assert "or give --data_dir=FOLDER with wikitext_test.parquet in it" in error_of(read_wikitext, tmp_path, None)
    write(tmp_path / "wikitext_test.parquet", [{"text": "one"}, {"text": None}])
    assert f"{tmp_path / 'wikitext_test.parquet'}, row 2: text is not text" in error_of(read_wikitext, tmp_path, None)
    (tmp_path / "wikitext.txt").write_bytes(b"\xff")
    assert f"{tmp_path / 'wikitext.txt'}: cannot be read" in error_of(read_wikitext, tmp_path, None)


CHOICES = {
    "question": "Which way is up?",
    "mc1_targets": {"choices": ["Skywards", "Left"], "labels": [1, 0]},
    "mc2_targets": {"choices": ["Skywards", "Overhead", "Left"], "labels": [1, 1, 0]},
}


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_truthfulqa_choices_are_read_from_a_folder(tmp_path, suffix):
    write(tmp_path / f"truthfulqa_mc.{suffix}", [CHOICES | {"other": 1}])

    assert read_truthfulqa_choices(tmp_path, None) == [CHOICES]


def test_truthfulqa_choices_are_read_from_the_hub(served):
    asked = served("truthfulqa", "mc", [CHOICES])

    assert read_truthfulqa_choices(None, None) == [CHOICES]
    assert asked[0][2] == "multiple_choice/validation-00000-of-00001.parquet"


def test_truthfulqa_rows_without_choices_are_named(tmp_path):
    path = write(tmp_path / "truthfulqa_mc.jsonl", [CHOICES, {"question": "Why?", "mc1_targets": {}}])

    complaint = f"{path}, row 2: no column 'mc2_targets'; there are question, mc1_targets"
    assert error_of(read_truthfulqa_choices, tmp_path, None).startswith(complaint)
