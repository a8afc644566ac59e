"""Which documents a user's files hold."""

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jtrace.data.corpus.readers import Message, TextFingerprint, read_documents, texts_of
from jtrace.errors import InputError


def test_a_text_file_has_a_document_per_line_and_files_come_in_order(tmp_path):
    (tmp_path / "b.txt").write_text("three\r\n")
    (tmp_path / "a.txt").write_text("one\n\n  \ntwo\u2028still two")
    (tmp_path / "c.jsonl").write_text(json.dumps({"text": "four\nlines", "id": 7}) + "\n")
    expected = ["one", "two\u2028still two", "three", "four\nlines"]
    assert list(read_documents([str(tmp_path)])) == expected
    assert list(read_documents([f"{tmp_path}/[ab].txt", f"{tmp_path}/c.jsonl"])) == expected
    (tmp_path / "x [y]").mkdir()
    (tmp_path / "x [y]/a.txt").write_text("within brackets\n")
    for spec in ("x [y]/a.txt", "x [y]/*.txt"):
        assert list(read_documents([f"{tmp_path}/{spec}"])) == ["within brackets"]
    assert list(read_documents([f"{tmp_path}/c.jsonl", f"{tmp_path}/b.txt"])) == ["four\nlines", "three"]


def test_documents_can_be_gone_through_again(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo")
    documents = read_documents([f"{tmp_path}/a.txt"])
    assert list(documents) == list(documents) == ["one", "two"]


def test_messages_are_a_conversation(tmp_path):
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    (tmp_path / "chat.jsonl").write_text(json.dumps({"messages": turns}))
    documents = list(read_documents([str(tmp_path)]))
    assert documents == [(("user", "hi"), ("assistant", "ho"))]
    assert list(texts_of([*documents, "plain"])) == ["hi", "ho", "plain"]


def test_the_fingerprint_tells_documents_and_their_order_apart():
    prints = set()
    for documents in (["a", "b"], ["b", "a"], ["a\nb"], ["ab"], [(Message("user", "ab"),)]):
        seen = TextFingerprint()
        assert list(seen.watch(documents)) == documents
        assert seen.values()["count"] == len(documents)
        assert seen.values()["characters"] == len("".join(texts_of(documents)))
        prints.add(seen.values()["sha256"])
    assert len(prints) == 5


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_a_byte_order_mark_is_no_text(name, tmp_path):
    lines = '{"text": "one"}\n{"text": "\ufefftwo"}\n'
    (tmp_path / name).write_text("\ufeff" + lines)
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / name).write_text(lines)
    assert list(read_documents([str(tmp_path / name)])) == list(read_documents([str(tmp_path / "without" / name)]))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b" \n\n", r"a\.txt: holds no text"),
        ("a.txt", b"good\n\xff", r"a\.txt: byte 5 is not UTF-8"),
        ("a.jsonl", b'{"text": "x"}\n{', r"a\.jsonl:2: not a JSON object"),
        ("a.jsonl", b"[1]", r"a\.jsonl:1: an object with either 'text' or 'messages'"),
        ("a.jsonl", b'{"text": "x", "messages": []}', "an object with either"),
        ("a.jsonl", b'{"text": " "}', "'text' is not a string with something in it"),
        ("a.jsonl", b'{"messages": [{"role": "user"}]}', "'messages' is not a list of objects"),
        ("a.jsonl", b'{"messages": [{"role": "user", "content": "x"}]}', "no turn is the assistant's"),
        ("a.csv", b"text\nx", r"holds no \.txt or \.jsonl file"),
    ],
)
def test_a_file_without_documents_is_refused_by_name_and_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        list(read_documents([str(tmp_path)]))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("spec", "message"), [("nowhere", "neither a file nor a folder"), ("*.none", "holds no")])
def test_a_spec_that_names_nothing_is_refused(spec, message):
    with pytest.raises(InputError, match=message):
        read_documents([spec])


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("x")
    with pytest.raises(InputError, match=r"a\.csv' is neither"):
        read_documents([f"{tmp_path}/a.csv"])


@pytest.fixture
def dataset(tmp_path, monkeypatch) -> str:
    """A local folder as `datasets` reads it: two splits, texts, some blank, and chats."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    chats = [[{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": "a"}] for i in range(4)]
    for split in ("train", "test"):
        columns = {"text": [f"{split} 0", " ", f"{split} 2", f"{split} 3"], "story": list("wxyz"), "messages": chats}
        os.makedirs(tmp_path / "set/data", exist_ok=True)
        pq.write_table(pa.table(columns | {"n": list(range(4))}), tmp_path / f"set/data/{split}-00000.parquet")
    return f"hub:{tmp_path}/set"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", ["train 0", "train 2", "train 3"]),
        (":limit=3", ["train 0", "train 2"]),
        (":split=test:column=story", list("wxyz")),
        (":column=messages:limit=1", [(("user", "q0"), ("assistant", "a"))]),
    ],
)
def test_a_dataset_s_rows_are_documents_blank_ones_left_out(dataset, tmp_path, options, expected):
    documents = read_documents([dataset + options], tmp_path / "home")
    assert list(documents) == list(documents) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (":column=body", "has no column 'body'; it has text, story, messages, n; add :column=NAME"),
        (":column=n", "row 1: 'n' holds neither text nor a list of messages"),
        (":split=dev", "cannot be loaded (ValueError: "),
        (":rows=3", "'rows=3' is none of config=…, split=…, column=…, limit=…, each once"),
        (":limit=x", "limit=x is no number of documents above 0"),
        (":limit=0", "limit=0 is no number"),
        (":split=test:split=train", "'split=train' is none of"),
    ],
)
def test_a_dataset_that_does_not_hold_what_is_asked_is_refused_in_one_line(dataset, tmp_path, options, message):
    with pytest.raises(InputError) as error:
        list(read_documents([dataset + options], tmp_path / "home"))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_dataset_that_cannot_be_reached_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"'hub:org/name' cannot be loaded .*check the name") as error:
        list(read_documents(["hub:org/name"], tmp_path))
    assert "\n" not in str(error.value)
