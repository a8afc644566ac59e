"""Statements come out of a file exactly as they stand in it, or a one-line message says which row is at fault."""

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from jtrace.data import loading
from jtrace.data.loading import read_all, read_statements
from jtrace.data.registry import BUILTIN
from jtrace.data.statements import Statements
from jtrace.errors import InputError

AUTHORS = Path(os.environ.get("JTRACE_SHARED", Path(__file__).parents[2].parent / "shared")) / "data"
authors_data = pytest.mark.skipif(not AUTHORS.is_dir(), reason=f"the authors' CSV files are not in {AUTHORS}")

GOOD_CSV = "statement,label\nWater is wet.,1\nFire is cold.,0\n"


@pytest.fixture
def write(tmp_path):
    """Write a file of text, bytes or an Arrow table and return its path."""

    def write(name: str, content: str | bytes | pa.Table) -> str:
        path = tmp_path / name
        if isinstance(content, pa.Table):
            parquet.write_table(content, path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write


def error_of(spec: str, **arguments) -> str:
    """The message of the InputError that reading `spec` ends in; always one line."""
    with pytest.raises(InputError) as caught:
        read_statements(spec, **arguments)
    message = str(caught.value)
    assert "\n" not in message
    assert "\r" not in message
    return message


# What is read


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("wet.csv", GOOD_CSV),
        ("wet.CSV", GOOD_CSV),
        ("wet.csv", GOOD_CSV.replace("\n", "\r\n")),
        ("wet.csv", "\ufeff" + GOOD_CSV),
        ("wet.csv", GOOD_CSV.rstrip("\n")),
        ("wet.csv", "\n" + GOOD_CSV.replace("\n", "\n  \n\n")),
        ("wet.csv", "id,label,note,statement\n7,1,,Water is wet.\n8,0,x,Fire is cold.\n"),
        (
            "wet.jsonl",
            '{"statement": "Water is wet.", "label": 1}\n\n{"label": 0, "statement": "Fire is cold.", "x": 2}',
        ),
        (
            "wet.jsonl",
            '{"statement": "Water is wet.", "label": "1"}\r\n{"statement": "Fire is cold.", "label": " 0"}\r\n',
        ),
        (
            "wet.jsonl",
            '\ufeff{"statement": "Water is wet.", "label": true}\n{"statement": "Fire is cold.", "label": false}',
        ),
        ("wet.parquet", pa.table({"statement": ["Water is wet.", "Fire is cold."], "label": [1, 0], "x": [[1], None]})),
        ("wet.parquet", pa.table({"label": [1.0, 0.0], "statement": ["Water is wet.", "Fire is cold."]})),
        ("wet.parquet", pa.table({"label": [True, False], "statement": ["Water is wet.", "Fire is cold."]})),
    ],
)
def test_every_format_gives_the_same_statements(write, name, content):
    statements = read_statements(write(name, content))

    assert (statements.name, len(statements)) == ("wet", 2)
    assert statements.texts == ("Water is wet.", "Fire is cold.")
    assert statements.labels.tolist() == [1, 0]
    assert statements.groups is None


@pytest.mark.parametrize(("one", "zero"), [("1.0", "0.0"), ("True", "False"), ("TRUE", "FALSE"), ("true", " false")])
def test_labels_written_out_are_read_in_every_format(write, one, zero):
    rows = [{"statement": "x", "label": one}, {"statement": "y", "label": zero}]
    sets = (
        write("a.csv", f"statement,label\nx,{one}\ny,{zero}\n"),
        write("a.jsonl", "\n".join(map(json.dumps, rows))),
        write("a.parquet", pa.Table.from_pylist(rows)),
    )
    assert [read_statements(path).labels.tolist() for path in sets] == [[1, 0]] * 3


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_lines_that_end_in_carriage_returns_are_lines(write, mark):
    """As old Macs, and spreadsheets that save for them, end lines."""
    lines = (mark + GOOD_CSV).replace("\n", "\r")
    statements = read_statements(write("mac.csv", lines))
    assert (statements.texts, statements.rows) == (("Water is wet.", "Fire is cold."), (2, 3))
    lines = '{"statement": "x", "label": 1}\r{"statement": "y", "label": 0}\r'
    assert read_statements(write("mac.jsonl", mark + lines)).texts == ("x", "y")


def test_labels_are_read_only_int8(write):
    labels = read_statements(write("wet.csv", GOOD_CSV)).labels

    assert labels.dtype == np.int8
    with pytest.raises(ValueError, match="read-only"):
        labels[0] = 0


def test_groups_are_text_whatever_their_type(write):
    in_csv = read_statements(write("a.csv", "statement,label,group\nx,1, q 1\ny,0,7\n"))
    in_json = read_statements(
        write("a.jsonl", '{"statement": "x", "label": 1, "group": 7}\n{"statement": "y", "label": 0, "group": "7"}')
    )

    assert in_csv.groups == (" q 1", "7")
    assert in_json.groups == ("7", "7")


@pytest.mark.parametrize("text", ["NA", "null", "None", "1", "  led by spaces", "debris_x000D_", "trailing ", "a\tb"])
def test_text_that_others_would_interpret_is_kept(write, text):
    assert read_statements(write("a.csv", f"statement,label\n{text},1\nother,0\n")).texts[0] == text


def test_a_field_may_be_longer_than_the_csv_modules_limit_which_stays_as_it_was(write):
    limit = csv.field_size_limit()
    long = "x" * (limit + 1)

    assert read_statements(write("a.csv", f"statement,label\n{long},1\ny,0\n")).texts[0] == long
    assert csv.field_size_limit() == limit


def test_folder_names_add_no_columns(tmp_path):
    folder = tmp_path / "label=1"
    folder.mkdir()
    parquet.write_table(pa.table({"statement": ["x", "y"]}), folder / "a.parquet")

    assert "no column 'label'" in error_of(str(folder / "a.parquet"))


# Round trips: whatever the text, it survives, and `where` leads a person to it

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
csv_texts = texts.map(lambda text: text.replace("\0", "-"))


def rows_of(text):
    """At least one row of each label."""
    return st.tuples(st.lists(st.tuples(text, st.sampled_from([0, 1]))), text, text).map(
        lambda drawn: [*drawn[0], (drawn[1], 0), (drawn[2], 1)]
    )


@settings(max_examples=60, deadline=None)
@given(rows=rows_of(csv_texts), newline=st.sampled_from(["\n", "\r\n"]), blank=st.booleans())
def test_csv_round_trip(tmp_path_factory, rows, newline, blank):
    path = tmp_path_factory.mktemp("csv") / "any.csv"
    first_lines = []
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator=newline, quoting=csv.QUOTE_ALL)
        writer.writerow(["statement", "label"])
        for row in rows:
            file.write(newline * blank)
            file.flush()
            first_lines.append(path.read_bytes().count(b"\n") + 1)
            writer.writerow(row)

    statements = read_statements(str(path))

    assert list(zip(statements.texts, statements.labels.tolist(), strict=True)) == rows
    assert [statements.where(i) for i in range(len(rows))] == [f"any.csv, row {line}" for line in first_lines]


@settings(max_examples=60, deadline=None)
@given(rows=rows_of(texts), ascii_only=st.booleans())
def test_jsonl_round_trip(tmp_path_factory, rows, ascii_only):
    path = tmp_path_factory.mktemp("jsonl") / "any.jsonl"
    lines = [json.dumps({"statement": text, "label": label}, ensure_ascii=ascii_only) for text, label in rows]
    path.write_bytes("\n\n".join(lines).encode())

    statements = read_statements(str(path))

    assert list(zip(statements.texts, statements.labels.tolist(), strict=True)) == rows
    assert [statements.where(i) for i in range(len(rows))] == [f"any.jsonl, row {2 * i + 1}" for i in range(len(rows))]


def test_where_counts_parquet_rows_from_one(write):
    statements = read_statements(write("a.parquet", pa.table({"statement": ["x", "y"], "label": [0, 1]})))

    assert statements.where(0) == "a.parquet, row 1"
    assert statements.where(1) == "a.parquet, row 2"


# Bad input: the message names the file, the row and the cause

BAD_ROWS = {
    "label 2": ("a.csv", "statement,label\nx,1\ny,2\n", "a.csv, row 3: label '2' is not 0 or 1"),
    "label empty": ("a.csv", "statement,label\nx,\n", "a.csv, row 2: label '' is not 0 or 1"),
    "label spelt yes": ("a.csv", "statement,label\nx,yes\n", "a.csv, row 2: label 'yes' is not 0 or 1"),
    "label spelt +1": ("a.csv", "statement,label\nx,+1\n", "a.csv, row 2: label '+1' is not 0 or 1"),
    "label 0.5": ("a.jsonl", '{"statement": "x", "label": 0.5}', "a.jsonl, row 1: label 0.5 is not 0 or 1"),
    "label NaN": ("a.jsonl", '{"statement": "x", "label": NaN}', "a.jsonl, row 1: label nan is not 0 or 1"),
    "label a list": ("a.jsonl", '{"statement": "x", "label": [1]}', "a.jsonl, row 1: label [1] is not 0 or 1"),
    "label null": (
        "a.parquet",
        pa.table({"statement": ["x", "y"], "label": [0, None]}),
        "a.parquet, row 2: label None is not 0 or 1",
    ),
    "label key missing": (
        "a.jsonl",
        '{"statement": "x", "label": 1}\n{"statement": "y"}',
        "a.jsonl, row 2: label None is not 0 or 1",
    ),
    "statement empty": ("a.csv", "statement,label\nx,1\n,0\n", "a.csv, row 3: the statement is empty"),
    "statement blank": ("a.csv", 'statement,label\n"\n",1\n" \t",0\n', "a.csv, row 2: the statement is empty"),
    "statement a number": ("a.jsonl", '{"statement": 3, "label": 1}', "a.jsonl, row 1: statement 3 is not text"),
    "statement null": ("a.jsonl", '{"statement": null, "label": 1}', "a.jsonl, row 1: no statement"),
    "statement a number in Parquet": (
        "a.parquet",
        pa.table({"statement": [3, 4], "label": [0, 1]}),
        "a.parquet, row 1: statement 3 is not text",
    ),
    "half a surrogate pair": (
        "a.jsonl",
        '{"statement": "\\ud83d", "label": 1}',
        "a.jsonl, row 1: statement '\\ud83d' holds half a surrogate pair",
    ),
    "group missing": ("a.csv", "statement,label,group\nx,1,g\ny,0,\n", "a.csv, row 3: the group is empty"),
    "group key missing": (
        "a.jsonl",
        '{"statement": "x", "label": 1, "group": 1}\n{"statement": "y", "label": 0}',
        "a.jsonl, row 2: no group",
    ),
    "group NaN": (
        "a.parquet",
        pa.table({"statement": ["x", "y"], "label": [0, 1], "group": [1.0, float("nan")]}),
        "a.parquet, row 2: no group",
    ),
    "too few fields": ("a.csv", "statement,label\nx,1\ny\n", "a.csv, row 3: 1 fields, but the header has 2"),
    "too many fields": ("a.csv", "statement,label\nx,y,1\n", "a.csv, row 2: 3 fields, but the header has 2"),
    "text after a quote": ("a.csv", 'statement,label\nx,1\n"y"z,0\n', "a.csv, row 3: damaged CSV (',' expected after"),
    "open quote": ("a.csv", 'statement,label\nx,1\n"y,0\nz,0\n', "a.csv, row 3: damaged CSV (unexpected end of data)"),
    "bare carriage return": ("a.csv", "statement,label\nx\ry,1\n", "a.csv, row 2: damaged CSV (new-line character"),
    "NUL in CSV": ("a.csv", "statement,label\nx,1\ny\0,0\n", "a.csv, row 3: holds a NUL character"),
    "NUL in JSONL": ("a.jsonl", '{"statement": "x\0", "label": 1}', "a.jsonl, row 1: holds a NUL character"),
    "Latin-1": ("a.csv", b"statement,label\nx,1\ncaf\xe9,0\n", "a.csv, row 3: byte 23, 0xe9, is not UTF-8; save the"),
    "UTF-16": ("a.csv", GOOD_CSV.encode("utf-16"), "a.csv, row 1: byte 0, 0xff, is not UTF-8"),
    "damaged JSON": ("a.jsonl", '\n{"statement": "x", "label": 1\n', "a.jsonl, row 2: damaged JSON (Expecting"),
    "key twice": (
        "a.jsonl",
        '{"statement": "x", "label": 1, "label": 0}',
        "a.jsonl, row 1: damaged JSON (one key twice)",
    ),
    "endless nesting": ("a.jsonl", "[" * 100_000, "a.jsonl, row 1: damaged JSON (nested too deeply"),
    "not an object": ("a.jsonl", '["x", 1]', "a.jsonl, row 1: ['x', 1] is not a JSON object"),
}

BAD_FILES = {
    "no label column": (
        "a.csv",
        "statement,Label\nx,1\n",
        "a.csv: no column 'label'; the columns are ['statement', 'Label']",
    ),
    "no statement column": ("a.csv", "Question\nWhy?\n", "a.csv: no column 'statement'; the columns are ['Question']"),
    "no label key": ("a.jsonl", '{"statement": "x"}', "a.jsonl: no column 'label'; the columns are ['statement']"),
    "no header": ("a.csv", "x,1\ny,0\n", "a.csv: no column 'statement'; the columns are ['x', '1']"),
    "label column twice": ("a.csv", "statement,label,label\nx,1,0\n", "a.csv: 2 columns are called 'label'"),
    "statement column twice": (
        "a.parquet",
        pa.Table.from_arrays([pa.array(["x"]), pa.array(["y"]), pa.array([1])], ["statement", "statement", "label"]),
        "a.parquet: 2 columns are called 'statement'",
    ),
    "all ones": ("a.csv", "statement,label\nx,1\ny,1\n", "a.csv: all 2 labels are 1; a probe needs both"),
    "all zeros": ("a.jsonl", '{"statement": "x", "label": 0}', "a.jsonl: all 1 labels are 0; a probe needs both"),
    "empty CSV": ("a.csv", "", "a.csv: has no rows"),
    "header only": ("a.csv", "statement,label\n\n", "a.csv: has no rows"),
    "empty JSONL": ("a.jsonl", "\n", "a.jsonl: has no rows"),
    "empty Parquet": ("a.parquet", pa.table({"statement": pa.array([], "string"), "label": [0][:0]}), "has no rows"),
    "not Parquet": ("a.parquet", GOOD_CSV, "a.parquet: cannot be read as Parquet ("),
    "text in another encoding": (
        "a.parquet",
        pa.table({"statement": pa.array([b"caf\xe9", b"x"]).view("string"), "label": [0, 1]}),
        "a.parquet: cannot be read as Parquet ('utf-8' codec",
    ),
}


@pytest.mark.parametrize(("name", "content", "message"), (BAD_ROWS | BAD_FILES).values(), ids=BAD_ROWS | BAD_FILES)
def test_bad_input_is_named(write, name, content, message):
    assert message in error_of(write(name, content))


def test_damaged_parquet_is_named(write):
    path = Path(write("a.parquet", pa.table({"statement": ["x", "y"], "label": [0, 1]})))
    path.write_bytes(path.read_bytes()[:-20])

    assert "a.parquet: cannot be read as Parquet (" in error_of(str(path))


def test_messages_stay_short_however_long_the_input(write):
    assert len(error_of(write("a.csv", "statement,label\nx," + "9" * 10_000))) < 400
    assert len(error_of(write("a.csv", ",".join(map(str, range(10_000)))))) < 400


# Which file is read


def test_a_file_that_is_not_there(tmp_path):
    assert "nowhere.csv: no such file" in error_of(str(tmp_path / "nowhere.csv"))


def test_a_folder_is_not_a_file(tmp_path):
    assert "is a folder; name a .csv or .jsonl or .parquet file" in error_of(str(tmp_path))


@pytest.mark.parametrize("spec", ["nosuch", "a.tsv", "a.json", ""])
def test_an_unknown_set_lists_what_there_is(spec):
    message = error_of(spec)

    assert f"no statement set {spec!r}" in message
    assert all(known in message for known in [*BUILTIN, ".csv", ".jsonl", ".parquet"])


def test_a_built_in_set_is_looked_up_in_data_dir(tmp_path):
    (tmp_path / "truthfulqa_train.csv").write_text(GOOD_CSV)

    statements = read_statements("truthfulqa", tmp_path)

    assert statements.name == "truthfulqa"
    assert statements.source == str(tmp_path / "truthfulqa_train.csv")
    assert statements.where(0) == "truthfulqa_train.csv, row 2"
    assert "toxigen.csv: no such file; check the path or --data_dir" in error_of("toxigen", data_dir=tmp_path)


def test_a_built_in_set_without_data_dir_is_built_from_the_hub(tmp_path, monkeypatch):
    built = statements_with(name="truthfulqa")
    monkeypatch.setattr(loading, "build", lambda name, cache_dir: {("truthfulqa", tmp_path): built}[name, cache_dir])

    assert read_statements("truthfulqa", cache_dir=tmp_path) is built
    assert read_all(["truthfulqa"], cache_dir=tmp_path) == (built,)


def test_read_all_keeps_the_order_and_refuses_one_name_for_two_sets(tmp_path):
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.csv").write_text(GOOD_CSV)
    (tmp_path / "toxigen.csv").write_text(GOOD_CSV)
    one, other = (str(tmp_path / folder / "same.csv") for folder in ("one", "other"))

    assert [statements.name for statements in read_all(["toxigen", one], tmp_path)] == ["toxigen", "same"]
    with pytest.raises(InputError, match="two sets are called 'same': ") as caught:
        read_all([one, "toxigen", other], tmp_path)
    assert one in str(caught.value)
    assert other in str(caught.value)
    with pytest.raises(InputError, match="names no set"):
        read_all([])


# What is known of a set


def statements_with(name="any", texts=("x", "y"), labels=(0, 1), groups=None) -> Statements:
    return Statements(texts, np.array(labels), groups, name=name, source=f"{name}.csv", rows=(2, 3))


@pytest.mark.parametrize("name", [*BUILTIN, "toxigen_small", "truthfulqa_train", "world-fairness"])
def test_a_file_s_name_says_nothing_of_its_labels(name, write):
    """A set called sst2.csv may hold sentiment, where label 1 is the good side; as a built-in set it is perturbed."""
    statements = read_statements(write(f"{name}.csv", GOOD_CSV))

    assert (statements.name, statements.info, statements.dimension, statements.vector_fraction) == (name, None, "", 0.5)


@pytest.mark.parametrize("name", BUILTIN)
def test_a_built_in_name_with_data_dir_is_the_built_in_set(name, write):
    folder = Path(write(BUILTIN[name].csv, GOOD_CSV)).parent
    statements = read_statements(name, folder)

    assert statements.info is BUILTIN[name]
    assert (statements.dimension, statements.vector_fraction) == (
        BUILTIN[name].dimension,
        BUILTIN[name].vector_fraction,
    )


@authors_data
@pytest.mark.parametrize("name", BUILTIN)
def test_a_published_file_is_known_by_its_content(name, tmp_path):
    copy = shutil.copy(AUTHORS / BUILTIN[name].csv, tmp_path / "mine.csv")
    statements = read_statements(str(copy))

    assert (statements.name, statements.info) == ("mine", BUILTIN[name])


def test_label_one_is_the_good_side_of_true_answers_and_of_anti_stereotypes():
    assert [name for name, info in BUILTIN.items() if info.one_is_good] == ["truthfulqa", "stereoset"]


def test_the_fingerprint_follows_the_content_and_nothing_else():
    base = statements_with()

    assert base.fingerprint == statements_with(name="renamed").fingerprint
    different = [
        base,
        statements_with(texts=("y", "x")),
        statements_with(texts=("x", "y ")),
        statements_with(texts=('x", "y', "z")),
        statements_with(texts=("x", 'y", "z')),
        statements_with(labels=(1, 0)),
        statements_with(groups=("x", "y")),
        statements_with(groups=("xy", "")),
    ]
    assert len({statements.fingerprint for statements in different}) == len(different)
    assert len(base.fingerprint) == 64


def test_the_fingerprint_is_the_same_on_every_machine():
    assert statements_with(texts=("é\t", "y")).fingerprint == (
        "959b0283b21a80ac9ed191a4a94ab8a6ff273a88f7fc84e72eb9f239f9e2c10c"
    )


# The authors' files


@authors_data
@pytest.mark.parametrize(
    ("name", "rows"),
    [("truthfulqa", 2263), ("toxigen", 6514), ("confaide", 2346), ("stereoset", 1952), ("sst2", 3642)],
)
def test_the_authors_sets(name, rows):
    """All but confaide.csv have CRLF line ends; none of those gets into a statement."""
    statements = read_statements(name, AUTHORS)

    assert len(statements) == rows
    assert set(statements.labels.tolist()) == {0, 1}
    assert not any("\r" in text for text in statements.texts)
    assert statements.where(rows - 1) == f"{BUILTIN[name].csv}, row {rows + 1}"


@authors_data
def test_the_authors_toxigen_keeps_its_debris():
    texts = read_statements("toxigen", AUTHORS).texts

    assert sum("_x000D_" in text for text in texts) == 34
    assert sum(text.endswith(" ") for text in texts) == 625


@authors_data
def test_the_authors_unlabelled_questions_are_no_statements():
    assert "no column 'statement'; the columns are ['Question']" in error_of(str(AUTHORS / "truthfulqa_test.csv"))
