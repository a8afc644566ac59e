"""The tokens that are a statement's own: none that the tokeniser or a chat template adds."""

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from jtrace.data.statement_tokens import statement_token_masks, statement_tokens
from jtrace.errors import InputError

TEMPLATE = (
    "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] | trim }}\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant: {% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer():
    """A token per character, `<s>` before every text and `</s>` behind it."""
    letters = ["<s>", "</s>", "?", *"abcdefghijklmnopqrstuvwxyz :\n"]
    made = Tokenizer(models.WordLevel({letter: i for i, letter in enumerate(letters)}, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    made.add_special_tokens(["<s>", "</s>"])
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="?", chat_template=TEMPLATE
    )


def owned(tokenizer, given):
    """Each statement's own tokens, as text."""
    tokens = statement_tokens(tokenizer, given, 100, "mine", "statement {}".format)
    marks = statement_token_masks(tokenizer, given, tokens, "mine", "statement {}".format)
    assert [len(one) for one in marks] == [len(one) for one in tokens]
    pairs = zip(tokens, marks, strict=True)
    return ["".join(tokenizer.convert_ids_to_tokens(ids[own].tolist())) for ids, own in pairs]


def test_of_a_text_all_but_what_the_tokeniser_adds(tokenizer):
    assert owned(tokenizer, ("ab c", "d")) == ["ab c", "d"]


def test_special_tokens_that_are_written_in_a_text_are_not_its_own(tokenizer):
    assert owned(tokenizer, ("a</s>b",)) == ["ab"]


def test_of_a_conversation_its_messages_alone(tokenizer):
    chat = [{"role": "user", "content": " user says a "}, {"role": "assistant", "content": "a"}]
    assert owned(tokenizer, (tuple(chat), tuple(chat[:1]))) == ["user says aa", "user says a"]


@pytest.mark.parametrize("word", ["user", "assistant", "s", "x:", ""])
def test_a_message_that_the_template_writes_as_well_is_found_in_its_place(tokenizer, word):
    chat = ({"role": "user", "content": word}, {"role": "assistant", "content": f"{word} b"})
    assert owned(tokenizer, (chat,)) == [word + f"{word} b".strip()]


def test_a_word_that_the_tokeniser_does_not_know_is_the_text_s(tokenizer):
    assert owned(tokenizer, ("aZb", "Z")) == ["a?b", "?"]


def test_a_statement_of_special_tokens_alone_has_nothing_to_pool(tokenizer):
    with pytest.raises(InputError, match="statement 1: only special tokens, so there is nothing to pool"):
        owned(tokenizer, ("a", "<s></s>"))


def test_a_template_that_changes_messages_hides_their_tokens(tokenizer):
    shouting = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer,
        bos_token="<s>",
        chat_template="{{ messages[0]['content'] | upper }}",
    )
    with pytest.raises(InputError, match="statement 0: the chat template changes a message"):
        owned(shouting, (({"role": "user", "content": "abc"},),))


def test_marks_are_of_the_same_length_where_nothing_is_pooled_from_the_front(tokenizer):
    (ids,) = statement_tokens(tokenizer, ("ab",), 100, "mine", "statement {}".format)
    (own,) = statement_token_masks(tokenizer, ("ab",), [ids], "mine", "statement {}".format)
    np.testing.assert_array_equal(own, [False, True, True])
