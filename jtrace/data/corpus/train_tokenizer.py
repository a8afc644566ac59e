"""Training of a byte-level BPE tokeniser, which encodes any text without an unknown token and decodes it exactly."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from jtrace.errors import InputError

BOS, EOS = "<|bos|>", "<|eos|>"
ROLES = ("system", "user", "assistant")
SPECIALS = (BOS, EOS, *(f"<|{role}|>" for role in ROLES))
SMALLEST = 256 + len(SPECIALS)
MOST_CHARACTERS = 200_000_000
# A turn is its role's token and its text; turns of the assistant end with EOS, so that it learns to stop.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def train_tokenizer(texts: Iterable[str], vocab_size: int, folder: Path) -> None:
    """Trains a tokeniser and writes its files, in the form that transformers reads.

    It puts BOS before a text, knows EOS, and has a chat template. A corpus that is too small for all merges gives fewer
    tokens.

    Args:
        texts: texts, which are read until `MOST_CHARACTERS` characters.
        vocab_size: the most tokens, with the 256 bytes and the special ones.
        folder: an existing folder.

    Raises:
        InputError: `vocab_size` is smaller than the bytes and the special tokens.
    """
    if vocab_size < SMALLEST:
        raise InputError(f"--vocab_size={vocab_size}: bytes and special tokens alone are {SMALLEST}; give more")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_beginning(texts), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=EOS,
        extra_special_tokens=list(SPECIALS[2:]),
        clean_up_tokenization_spaces=False,
    )
    wrapped.chat_template = CHAT_TEMPLATE
    wrapped.save_pretrained(folder)


def _beginning(texts: Iterable[str]) -> Iterator[str]:
    seen = 0
    for text in texts:
        if seen >= MOST_CHARACTERS:
            return
        seen += len(text)
        yield text
