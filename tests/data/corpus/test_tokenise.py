"""Which tokens a document becomes, and which of them are learnt."""

import numpy as np
import pytest

from jtrace.data.corpus.readers import Message
from jtrace.data.corpus.tokenise import tokenise
from jtrace.data.corpus.train_tokenizer import EOS, SMALLEST, train_tokenizer
from jtrace.data.tokenizer import read_tokenizer
from jtrace.errors import InputError
from tests.conftest import letter_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(["the cat sat on the mat"], SMALLEST, folder)
    return read_tokenizer(folder)


def test_a_text_begins_and_ends_with_the_special_tokens(tokenizer):
    (found,) = tokenise(["cat"], tokenizer)
    assert tokenizer.convert_ids_to_tokens(found.ids) == ["<|bos|>", "c", "a", "t", EOS]
    assert found.learnt.all()


def test_a_tokeniser_without_an_end_adds_none(tmp_path):
    letter_tokenizer(tmp_path)
    (found,) = tokenise(["ab"], read_tokenizer(tmp_path))
    np.testing.assert_array_equal(found.ids, [0, 1])


def test_of_a_conversation_what_the_assistant_says_is_learnt_and_its_end(tokenizer):
    turns = [("system", "s"), ("user", "q"), ("assistant", "an"), ("user", "r"), ("assistant", "b"), ("user", "end")]
    _, found = tokenise(["plain", tuple(Message(*turn) for turn in turns)], tokenizer)
    text = tokenizer.apply_chat_template([Message(*turn)._asdict() for turn in turns], tokenize=False)
    np.testing.assert_array_equal(found.ids, tokenizer(text, add_special_tokens=False)["input_ids"])
    assert tokenizer.decode(found.ids[found.learnt]) == f"an{EOS}b{EOS}"


def test_a_conversation_needs_a_chat_template(tmp_path):
    letter_tokenizer(tmp_path)
    with pytest.raises(InputError, match="conversation 1: the tokeniser has no chat template"):
        list(tokenise([(Message("assistant", "b"),)], read_tokenizer(tmp_path)))


def test_a_template_that_rewrites_earlier_turns_is_refused(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", "{{ messages | length }}{{ messages[-1]['content'] }}")
    with pytest.raises(InputError, match="rewrites earlier turns"):
        list(tokenise([(Message("user", "a"), Message("assistant", "b"))], tokenizer))


def test_documents_are_encoded_some_at_a_time(tokenizer, monkeypatch):
    documents = ["one", (Message("user", "q"), Message("assistant", "a")), "three", "four"]
    expected = list(tokenise(documents, tokenizer))
    monkeypatch.setattr("jtrace.data.corpus.tokenise.CHARACTERS_AT_ONCE", 4)
    seen = []
    found = tokenise((seen.append(document) or document for document in documents), tokenizer)
    first = next(found)
    assert len(seen) == 2
    for ours, theirs in zip([first, *found], expected, strict=True):
        np.testing.assert_array_equal(ours.ids, theirs.ids)
        np.testing.assert_array_equal(ours.learnt, theirs.learnt)
