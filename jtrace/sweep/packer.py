"""Statements, packed once per tokeniser and architecture."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from jtrace.data.statement_tokens import statement_tokens
from jtrace.data.statements import Statements
from jtrace.data.tokenizer import (
    SpecialTokens,
    appends_tokens,
    check_embedded,
    check_vocabulary,
    class_disagreement,
    read_tokenizer,
    tokenizer_fingerprint,
)
from jtrace.inference.residuals import PackedSets, pack_sets
from jtrace.models.config import DecoderConfig


class Packer:
    """Packs the statements once per tokeniser and architecture; checkpoints of one model share the result."""

    def __init__(self, sets: Sequence[Statements], special_tokens: SpecialTokens = "parse") -> None:
        self._sets, self._special_tokens = sets, special_tokens
        self._latest: tuple[tuple[str, DecoderConfig], PackedSets] | None = None

    def __call__(self, folder: Path, config: DecoderConfig) -> PackedSets:
        """The packed sets.

        Raises:
            InputError: no tokeniser, a token the model has no embedding for, or a statement longer than its context.
        """
        key = (tokenizer_fingerprint(folder), config)
        if self._latest is None or self._latest[0] != key:
            tokenizer = read_tokenizer(folder, self._special_tokens)
            check_vocabulary(len(tokenizer), config.vocab_size, folder)
            tokens = {
                one.name: statement_tokens(tokenizer, one.given, config.context, str(folder), one.where)
                for one in self._sets
            }
            for ids in tokens.values():
                check_embedded(ids, config.vocab_size, str(folder))
            packed = pack_sets(tokens, config)
            self._latest = key, dataclasses.replace(packed, warnings=tuple(self._warnings(folder, tokenizer)))
        return self._latest[1]

    def _warnings(self, folder: Path, tokenizer: PreTrainedTokenizerBase) -> Iterator[str]:
        texts = [text for statements in self._sets for text in statements.texts]
        if disagreement := class_disagreement(folder, texts):
            yield disagreement
        plain = [statements.texts[0] for statements in self._sets if statements.chats is None]
        if plain and appends_tokens(tokenizer, plain[0]):
            yield "the tokeniser puts special tokens behind a text; the last one before them is read"
