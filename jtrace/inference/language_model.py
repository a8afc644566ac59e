"""A checkpoint that is asked: its params on the device, its tokeniser, and where its completions stop."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jax.typing import DTypeLike
from transformers import PreTrainedTokenizerBase

from jtrace.checkpoints.load import read_config_json
from jtrace.checkpoints.orbax import read_checkpoint
from jtrace.data.tokenizer import SpecialTokens, check_embedded, check_vocabulary, encode, read_tokenizer
from jtrace.errors import InputError
from jtrace.inference.generate import Sampling, generate
from jtrace.models.config import DecoderConfig
from jtrace.models.decoder import Params


# eq=False: params have no single truth value.
@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A decoder with all its layers.

    Attributes:
        name: as in the tables.
        model_type: of its config.json.
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
        """Texts without special tokens."""
        named = self.tokenizer.all_special_ids  # those of tokenizer.json's own are skipped by their kind
        return self.tokenizer.batch_decode(
            [ids[~np.isin(ids, named)].tolist() for ids in tokens], skip_special_tokens=True
        )

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Token ids of each text, int32, see `jtrace.data.tokenizer.encode`.

        Raises:
            InputError: the model has no embedding for one.
        """
        ids = encode(self.tokenizer, texts)
        check_embedded(ids, self.config.vocab_size, self.name)
        return ids

    def complete(self, prompts: Sequence[str], max_new_tokens: int, progress: str | None = None) -> list[str]:
        """Greedy completions without any intervention."""
        ids = self.encode(prompts)
        sampling = Sampling(max_new_tokens, self.stop)
        found = dict(generate(self.params, self.config, ids, sampling, dtype=self.dtype, progress=progress))
        return self.decode([found[i][0] for i in range(len(ids))])


def load_language_model(
    folder: Path,
    name: str,
    dtype: DTypeLike,
    tokenizer: Path | None = None,
    special_tokens: SpecialTokens = "parse",
) -> LanguageModel:
    """Read a Hugging Face folder or an Orbax checkpoint.

    Args:
        tokenizer: the folder of its tokeniser; its own if None.
        special_tokens: see `jtrace.data.tokenizer.read_tokenizer`.

    Raises:
        InputError: files are missing or damaged, or tokeniser and model do not belong together.
    """
    values = read_config_json(folder)
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
    """Params that are on the device already; `values` is the folder's config.json."""
    check_vocabulary(len(tokenizer), config.vocab_size, folder)
    stop = _stop_tokens(folder, values, tokenizer)
    return LanguageModel(name, str(values["model_type"]), config, params, dtype, tokenizer, stop)


def _stop_tokens(folder: Path, values: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Of generation_config.json, else of config.json, else the tokeniser's: where transformers looks for them."""
    path = folder / "generation_config.json"
    try:
        generation = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        found = generation.get("eos_token_id", values.get("eos_token_id"))
    except (ValueError, AttributeError):
        raise InputError(f"{path}: is no JSON object; mend it, copy it again, or remove it") from None
    if found is None:
        found = tokenizer.eos_token_id
    listed = found if isinstance(found, list) else [] if found is None else [found]
    if not all(isinstance(token, int) for token in listed):
        raise InputError(f"{folder}: eos_token_id is {found!r}; a token id or a list of them is needed")
    return tuple(listed)
