"""A model to ask: params on the device, tokeniser, and the tokens that end its completions."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jax.typing import DTypeLike
from transformers import PreTrainedTokenizerBase

from jtrace.checkpoints.load import read_config_json
from jtrace.checkpoints.orbax import read_checkpoint
from jtrace.data.tokenizer import (
    ANOTHER,
    LARGEST_ID,
    SpecialTokens,
    check_embedded,
    check_vocabulary,
    encode,
    read_tokenizer,
)
from jtrace.errors import InputError
from jtrace.inference.generate import Sampling, generate
from jtrace.models.config import DecoderConfig
from jtrace.models.decoder import Params
from jtrace.models.families import read_model_config
from jtrace.runtime.foreign import foreign_rust
from jtrace.runtime.small_files import read_json_object


# eq=False: params have no single truth value.
@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A decoder with all its layers, and its tokeniser.

    Attributes:
        name: its name in tables.
        model_type: `model_type` of its config.json.
        stop: ids of the tokens that end a completion.
    """

    name: str
    model_type: str
    config: DecoderConfig
    params: Params
    dtype: DTypeLike
    tokenizer: PreTrainedTokenizerBase
    stop: tuple[int, ...]

    def decode(self, tokens: Sequence[np.ndarray]) -> list[str]:
        """Decodes token ids into texts without special tokens."""
        named = self.tokenizer.all_special_ids  # special tokens of tokenizer.json are skipped by their kind
        texts = [ids[~np.isin(ids, named)].tolist() for ids in tokens]
        with foreign_rust(f"{self.name}: tokeniser", "cannot decode what the model says", ANOTHER):
            return self.tokenizer.batch_decode(texts, skip_special_tokens=True)

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Encodes texts into token ids, int32; see `jtrace.data.tokenizer.encode`.

        Raises:
            InputError: the model has no embedding for a token.
        """
        ids = encode(self.tokenizer, texts)
        check_embedded(ids, self.config.vocab_size, self.name)
        return ids

    def complete(self, prompts: Sequence[str], max_new_tokens: int, progress: str | None = None) -> list[str]:
        """Completes prompts greedily, without an intervention."""
        ids = self.encode(prompts)
        sampling = Sampling(max_new_tokens, self.stop)
        completions = dict(generate(self.params, self.config, ids, sampling, dtype=self.dtype, progress=progress))
        return self.decode([completions[i][0] for i in range(len(ids))])


def load_language_model(
    folder: Path,
    name: str,
    dtype: DTypeLike,
    tokenizer: Path | None = None,
    special_tokens: SpecialTokens = "parse",
) -> LanguageModel:
    """Reads a Hugging Face folder or an Orbax checkpoint.

    Args:
        tokenizer: the folder of the tokeniser; that of the model if None.
        special_tokens: see `jtrace.data.tokenizer.read_tokenizer`.

    Raises:
        InputError: files are missing or damaged, or tokeniser and model do not belong together.
    """
    values = read_config_json(folder)
    read_model_config(values, str(folder / "config.json"))  # before transformers reads it
    words = read_tokenizer(tokenizer or folder, special_tokens)
    config, params = read_checkpoint(folder, dtype)
    return as_language_model(name, folder, values, config, params, dtype, words)


def as_language_model(
    name: str,
    folder: Path,
    values: dict[str, Any],
    config: DecoderConfig,
    params: Params,
    dtype: DTypeLike,
    tokenizer: PreTrainedTokenizerBase,
) -> LanguageModel:
    """Makes a language model of params that are on the device; `values` is the folder's config.json."""
    check_vocabulary(len(tokenizer), config.vocab_size, folder)
    stop = _stop_tokens(folder, values, tokenizer)
    return LanguageModel(name, str(values["model_type"]), config, params, dtype, tokenizer, stop)


def _stop_tokens(folder: Path, values: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Reads stop tokens of generation_config.json, else config.json, else the tokeniser, as transformers does."""
    path = folder / "generation_config.json"
    remedy = "mend it, copy it again, or remove it"
    generation = read_json_object(path, remedy=remedy) if os.path.lexists(path) else {}
    stop = generation.get("eos_token_id", values.get("eos_token_id"))
    if stop is None:
        stop = tokenizer.eos_token_id
    listed = stop if isinstance(stop, list) else [] if stop is None else [stop]
    if not all(isinstance(token, int) and 0 <= token <= LARGEST_ID for token in listed):
        raise InputError(f"{folder}: eos_token_id is {stop!r}; a token id or a list of them is needed")
    return tuple(listed)
