"""The data that a contender's process keeps between sub-benchmarks: statements, tokens, model, activations."""

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
from jtrace.pretraining.step import initial_params
from jtrace.stats.sampling import evenly_spread

JTRACE, PUBLISHED, BATCHED = "jtrace", "published", "batched"
# Contenders in their order, each in its own process.
CONTENDERS = (JTRACE, PUBLISHED, BATCHED)


@dataclass(frozen=True)
class Setting:
    """Settings of a measurement, the same for every contender.

    Attributes:
        checkpoint: a Hugging Face folder of the llama family.
        tokenizer: folder of the tokeniser; token ids are taken modulo the checkpoint's vocabulary.
        statements: names of sets, or files.
        data_dir: folder of the named sets' CSV files.
        dtype: dtype of jtrace and of the batched peer; the published procedure is float32.
        rounds: timed calls after the first one, which compiles.
        limit: number of first rows of each set; None for all.
        sample: for models that take the peers long; None measures everything. Contenders that go one by one are
            measured on that many items, spread evenly; the published statistics are of the first and the last layer;
            peers load once, and sweeps are one round, without the published loop.
        new_tokens: tokens of a completion.
        prompts: number of continued prompts, and of questions whose answers are scored.
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
    """The data of a measurement, made at first use; one model per process, as a device does not hold two of 7B."""

    setting: Setting
    contender: str

    @cached_property
    def sets(self) -> dict[str, Statements]:
        """The statement sets, each cut to its first rows."""
        return {
            statements.name: self._cut(statements)
            for statements in read_all(self.setting.statements, self.setting.data_dir)
        }

    @cached_property
    def config(self) -> DecoderConfig:
        """Config of the checkpoint."""
        values = read_config_json(self.setting.checkpoint)
        return read_model_config(values, str(self.setting.checkpoint / "config.json"))[0]

    @cached_property
    def tokens(self) -> dict[str, list[np.ndarray]]:
        """Token ids of each set's statements, int32."""
        tokenizer = read_tokenizer(self.setting.tokenizer)
        return {
            name: [ids % self.config.vocab_size for ids in encode(tokenizer, list(statements.texts))]
            for name, statements in self.sets.items()
        }

    @cached_property
    def params(self) -> Params:
        """Params of jtrace, on the device in the setting's dtype."""
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
        """Returns those of `count` items, each worth `each`, that one by one contenders are measured on, int64."""
        return evenly_spread(count, max(1, self.setting.sample // each) if self.setting.sample else count)

    @property
    def one_by_one_rounds(self) -> int:
        """Rounds of contenders that go one by one."""
        return self.setting.rounds if self.setting.sample is None else 1

    @cached_property
    def residuals(self) -> jax.Array:
        """Residuals of jtrace for every distinct statement, [L, U, D], on the device."""
        return extract_residuals(self.params, self.config, self.packed.packed, dtype=jnp.dtype(self.setting.dtype))

    @cached_property
    def untrained_residuals(self) -> jax.Array:
        """Residuals of the same architecture with its first params, [L, U, D], on the device."""
        dtype = jnp.dtype(self.setting.dtype)
        params = initial_params(self.config, 0, dtype)
        return extract_residuals(params, self.config, self.packed.packed, dtype=dtype)

    @cached_property
    def torch_model(self) -> Any:
        """Model of the peers: float32 for the published procedure, else in the setting's dtype."""
        from jtrace.benchmark.peers.model import load

        return load(self.setting.checkpoint, "float32" if self.contender == PUBLISHED else self.setting.dtype)

    @cached_property
    def torch_residuals(self) -> np.ndarray:
        """Residuals of torch for `all_tokens`, float32 [L, N, D]; if sampled, products are in the setting's dtype."""
        from jtrace.benchmark.peers.forward import extract_batched, on_host

        dtype = "float32" if self.setting.sample is None else self.setting.dtype
        return on_host(extract_batched(self.torch_model, self.all_tokens, dtype))

    def of_set(self, residuals: np.ndarray) -> dict[str, np.ndarray]:
        """Splits residuals of `all_tokens`, [L, N, D], by sets."""
        stops = np.cumsum([len(of_set) for of_set in self.tokens.values()])
        return dict(zip(self.tokens, np.split(residuals, stops[:-1], axis=1), strict=True))

    def _cut(self, statements: Statements) -> Statements:
        stop = self.setting.limit
        if stop is None or stop >= len(statements):
            return statements
        groups = None if statements.groups is None else statements.groups[:stop]
        return dataclasses.replace(
            statements,
            texts=statements.texts[:stop],
            labels=statements.labels[:stop],
            rows=statements.rows[:stop],
            groups=groups,
        )
