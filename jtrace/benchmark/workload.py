"""What a contender's process keeps between sub-benchmarks: statements, tokens, the loaded model, activations."""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jtrace.checkpoints.load import load_params, read_config_json
from jtrace.data.loading import read_all
from jtrace.data.statements import Statements
from jtrace.data.tokenizer import encode, read_tokenizer
from jtrace.inference.residuals import PackedSets, extract_residuals, pack_sets
from jtrace.models.config import DecoderConfig
from jtrace.models.decoder import Params
from jtrace.models.families import read_model_config
from jtrace.stats.sampling import evenly_spread

JTRACE, PUBLISHED, BATCHED = "jtrace", "published", "batched"
# In this order, each in a process of its own.
CONTENDERS = (JTRACE, PUBLISHED, BATCHED)


@dataclass(frozen=True)
class Setting:
    """What is measured, the same for every contender.

    Attributes:
        checkpoint: a Hugging Face folder of the llama family.
        tokenizer: the folder whose tokenizer is used; token ids are taken modulo the checkpoint's vocabulary.
        statements: sets by name, or files.
        data_dir: where sets given by name lie as CSV.
        dtype: of jtrace and of the batched peer; the published procedure is float32.
        rounds: timed calls after the first one, which compiles.
        limit: rows of each set, from the first on; all of them if None.
        sample: for a model that takes the peers long; None to measure everything. That many items, spread evenly, are
            what a contender that goes one by one is measured on; the published statistics are taken of the first and
            the last layer; peers load once, and sweeps are one round, without the published loop.
        new_tokens: of a completion.
        prompts: that are continued, and questions whose answers are scored.
    """

    checkpoint: Path
    tokenizer: Path
    statements: tuple[str, ...]
    data_dir: Path | None
    dtype: str
    rounds: int
    limit: int | None
    sample: int | None
    new_tokens: int
    prompts: int


@dataclass
class Workload:
    """Each part is made when it is first asked for; a model is one per process, as a device holds no two of 7B."""

    setting: Setting
    contender: str

    @cached_property
    def sets(self) -> dict[str, Statements]:
        """The statement sets, each cut to its first rows."""
        return {of.name: self._cut(of) for of in read_all(self.setting.statements, self.setting.data_dir)}

    @cached_property
    def config(self) -> DecoderConfig:
        """Of the checkpoint, without its weights."""
        values = read_config_json(self.setting.checkpoint)
        return read_model_config(values, str(self.setting.checkpoint / "config.json"))[0]

    @cached_property
    def tokens(self) -> dict[str, list[np.ndarray]]:
        """Token ids of each set's statements, int32."""
        tokenizer = read_tokenizer(self.setting.tokenizer)
        return {
            name: [ids % self.config.vocab_size for ids in encode(tokenizer, list(of.texts))]
            for name, of in self.sets.items()
        }

    @cached_property
    def params(self) -> Params:
        """jtrace's, on the device in the setting's dtype."""
        return load_params(self.setting.checkpoint, jnp.dtype(self.setting.dtype))[1]

    @cached_property
    def packed(self) -> PackedSets:
        """All sets in one packing."""
        return pack_sets(self.tokens, self.config)

    @cached_property
    def all_tokens(self) -> list[np.ndarray]:
        """Token ids of all sets' statements, one set after the other."""
        return [ids for of_set in self.tokens.values() for ids in of_set]

    def sampled(self, count: int, each: int = 1) -> np.ndarray:
        """Which of `count` items, of which each counts as so many, one by one contenders are measured on, int64."""
        return evenly_spread(count, max(1, self.setting.sample // each) if self.setting.sample else count)

    @property
    def one_by_one_rounds(self) -> int:
        """Of contenders that go one by one."""
        return self.setting.rounds if self.setting.sample is None else 1

    @cached_property
    def residuals(self) -> jax.Array:
        """jtrace's, of every distinct statement, [L, U, D] on the device."""
        return extract_residuals(self.params, self.config, self.packed.packed, dtype=jnp.dtype(self.setting.dtype))

    @cached_property
    def torch_model(self) -> Any:
        """Of the peers: in float32 for the published procedure, else in the setting's dtype."""
        from jtrace.benchmark.peers.model import load

        return load(self.setting.checkpoint, "float32" if self.contender == PUBLISHED else self.setting.dtype)

    @cached_property
    def torch_residuals(self) -> np.ndarray:
        """The torch model's, of `all_tokens`, float32 [L, N, D]; if sampled by products in the dtype set."""
        from jtrace.benchmark.peers.forward import extract_batched, on_host

        dtype = "float32" if self.setting.sample is None else self.setting.dtype
        return on_host(extract_batched(self.torch_model, self.all_tokens, dtype))

    def of_set(self, residuals: np.ndarray) -> dict[str, np.ndarray]:
        """Residuals of `all_tokens`, [L, N, D], set by set."""
        stops = np.cumsum([len(of_set) for of_set in self.tokens.values()])
        return dict(zip(self.tokens, np.split(residuals, stops[:-1], axis=1), strict=True))

    def _cut(self, of: Statements) -> Statements:
        stop = self.setting.limit
        if stop is None or stop >= len(of):
            return of
        groups = None if of.groups is None else of.groups[:stop]
        return dataclasses.replace(
            of, texts=of.texts[:stop], labels=of.labels[:stop], rows=of.rows[:stop], groups=groups
        )
