"""Which documents a user's files hold."""

import json

import pytest

from jtrace.data.corpus import documents_fingerprint, read_documents, texts_of
from jtrace.errors import InputError


def test_a_text_file_has_a_document_per_line_and_files_come_in_order(tmp_path):
    (tmp_path / "b.txt").write_text("three\r\n")
    (tmp_path / "a.txt").write_text("one\n\n  \ntwo\u2028still two")
    (tmp_path / "c.jsonl").write_text(json.dumps({"text": "four\nlines", "id": 7}) + "\n")
    expected = ["one", "two\u2028still two", "three", "four\nlines"]
    assert read_documents([str(tmp_path)]) == expected
    assert read_documents([f"{tmp_path}/[ab].txt", f"{tmp_path}/c.jsonl"]) == expected
    assert read_documents([f"{tmp_path}/c.jsonl", f"{tmp_path}/b.txt"]) == ["four\nlines", "three"]


def test_messages_are_a_conversation(tmp_path):
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    (tmp_path / "chat.jsonl").write_text(json.dumps({"messages": turns}))
    documents = read_documents([str(tmp_path)])
    assert documents == [(("user", "hi"), ("assistant", "ho"))]
    assert list(texts_of([*documents, "plain"])) == ["hi", "ho", "plain"]


def test_the_fingerprint_tells_documents_and_their_order_apart():
    prints = {documents_fingerprint(documents) for documents in (["a", "b"], ["b", "a"], ["a\nb"], ["ab"])}
    assert len(prints) == 4


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
        read_documents([str(tmp_path)])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("spec", "message"), [("nowhere", "neither a file nor a folder"), ("*.none", "holds no")])
def test_a_spec_that_names_nothing_is_refused(spec, message):
    with pytest.raises(InputError, match=message):
        read_documents([spec])


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("x")
    with pytest.raises(InputError, match=r"a\.csv' is neither"):
        read_documents([f"{tmp_path}/a.csv"])
