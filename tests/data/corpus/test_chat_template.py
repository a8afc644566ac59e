"""A chat template makes the text that transformers makes, within a time and a memory."""

import pytest

from jtrace.data.corpus import chat_template
from jtrace.data.corpus.chat_template import ChatTemplate, TemplateError
from jtrace.data.corpus.train_tokenizer import CHAT_TEMPLATE, SMALLEST, train_tokenizer
from jtrace.data.tokenizer import read_tokenizer

TURNS = [{"role": "user", "content": "ä\ud83d\n"}, {"role": "assistant", "content": "b"}]
ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    "template", [CHAT_TEMPLATE, "{{ messages | tojson }}{{ bos_token }}{{ add_generation_prompt }}"]
)
def test_the_text_is_that_of_transformers(tmp_path, template):
    train_tokenizer(["the cat"], SMALLEST, tmp_path)
    tokenizer = read_tokenizer(tmp_path)
    tokenizer.chat_template = template
    with ChatTemplate(template, tokenizer.special_tokens_map) as ours:
        for prompt in (False, True):
            theirs = tokenizer.apply_chat_template(TURNS, tokenize=False, add_generation_prompt=prompt)
            assert ours.render(TURNS, prompt) == theirs


def test_what_takes_too_much_is_stopped_and_the_next_text_made(monkeypatch):
    """One process is asked after the other, as each that is stopped is followed by another."""
    monkeypatch.setattr(chat_template, "RENDER_SECONDS", 1.0)
    monkeypatch.setattr(chat_template, "LONGEST_TEXT", 1000)
    rest = "{% elif kind == 'b' %}{{ 'a' * 8000000000 }}{% elif kind == 'c' %}{{ 'a' * 1001 }}{% else %}fine{% endif %}"
    template = "{% set kind = messages[0]['content'] %}{% if kind == 'a' %}" + ENDLESS + rest
    with ChatTemplate(template, {}) as ours:
        for kind, cause in (("b", "MemoryError"), ("c", "makes a text of 1001 characters"), ("a", "more than 1 s")):
            with pytest.raises(TemplateError, match=cause):
                ours.render([{"role": "user", "content": kind}])
        monkeypatch.setattr(chat_template, "RENDER_SECONDS", 20.0)
        assert ours.render([{"role": "user", "content": "d"}]) == "fine"
        with pytest.raises(TemplateError, match="no turn before"):
            ours.render([])
    assert ours._process is None
