"""A model in Python: its activations on statements, its completions and log-probabilities, steered or not."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jtrace.api.activations import Activations, Origin
from jtrace.api.arguments import in_python_words
from jtrace.checkpoints.load import read_config_json
from jtrace.checkpoints.local import local_folder
from jtrace.checkpoints.orbax import read_checkpoint
from jtrace.checkpoints.refs import CheckpointRef, parse_one
from jtrace.data.statement_tokens import statement_token_masks, statement_tokens
from jtrace.data.statements import Chat, Statements, checked_chat, text_fault
from jtrace.data.tokenizer import SpecialTokens, read_tokenizer
from jtrace.errors import InputError
from jtrace.hub.client import hub_in
from jtrace.inference.continuations import check_length, continuation_pairs
from jtrace.inference.generate import Sampling, generate
from jtrace.inference.language_model import LanguageModel, as_language_model
from jtrace.inference.residuals import extract, pack_sets
from jtrace.inference.score import score
from jtrace.models.config import DecoderConfig
from jtrace.models.intervention import Edit, Positions
from jtrace.models.reading import POOLINGS, SITES, Pooling, Read, Site, width_of
from jtrace.probing.vector_files import ModelFacts
from jtrace.runtime.compilation import use_cache
from jtrace.runtime.devices import computing_dtype
from jtrace.steering.vector import Steering
from jtrace.sweep.check import read_architecture, wanted_layers
from jtrace.sweep.config import SweepConfig

Texts = Sequence[str] | Sequence[Sequence[dict[str, str]]]


@in_python_words
def load_model(
    checkpoint: str | Path,
    *,
    dtype: str = "auto",
    layers: int | Sequence[int] | None = None,
    tokenizer: str | Path | None = None,
    special_tokens: SpecialTokens = "parse",
    cache_dir: str | Path | None = None,
) -> "Model":
    """Loads a checkpoint onto the device.

    Args:
        checkpoint: a Hugging Face folder, an Orbax checkpoint, a hub revision (`org/name@revision`), a checkpoint of a
            suite (`pythia-160m:1000`) or a kept step of a pre-training run (`RUN@step`).
        dtype: of params and forward: `float32`, `bfloat16`, or `auto` (float32 on a CPU, else bfloat16).
        layers: the layers that activations are wanted of; blocks above the last are not loaded, and such a model
            generates nothing. None for the whole model.
        tokenizer: folder of the tokeniser; by default the checkpoint's own.
        special_tokens: what special tokens that are written out in a text are read as: `parse` (themselves) or `text`.
        cache_dir: where downloads are kept, laid out as HF_HOME; by default Hugging Face's own.

    Raises:
        InputError: it names no checkpoint or several, or its files are missing, damaged or not implemented.
    """
    if dtype not in ("auto", "float32", "bfloat16"):
        raise InputError(f"dtype={dtype!r}: there are auto, float32 and bfloat16")
    use_cache()
    hub = hub_in(cache_dir)
    ref = parse_one(str(checkpoint), hub.revisions)
    folder = local_folder(ref, hub)
    chosen = None if layers is None else (layers,) if isinstance(layers, int) else tuple(layers)
    config = SweepConfig(tokenizer=Path(tokenizer) if tokenizer else None)
    architecture, tokenizer_folder = read_architecture(folder, ref, config, hub)
    wanted = wanted_layers(chosen, architecture.depth, ref)
    depth = None if chosen is None else max(wanted) + 1
    words = read_tokenizer(tokenizer_folder, special_tokens)
    name = computing_dtype(dtype)
    read, params = read_checkpoint(folder, jnp.dtype(name), depth)
    values = read_config_json(folder)
    language_model = as_language_model(ref.name, folder, values, read, params, jnp.dtype(name), words)
    return Model(language_model, ref, architecture, tuple(wanted), name)


# eq=False: params have no single truth value.
@dataclass(frozen=True, eq=False)
class Model:
    """A checkpoint on the device, and its tokeniser.

    Attributes:
        language_model: params, and what the rest of jtrace asks.
        architecture: of the whole model, all of whose blocks need not be loaded.
        layers: that activations are read of.
        dtype: of params and forward.
    """

    language_model: LanguageModel
    ref: CheckpointRef
    architecture: DecoderConfig
    layers: tuple[int, ...]
    dtype: str

    @property
    def name(self) -> str:
        """The checkpoint's name in tables and files."""
        return self.ref.name

    def __repr__(self) -> str:
        full, loaded = self.architecture, self.language_model.config.depth
        part = "" if loaded == full.depth else f", the first {loaded} loaded"
        kind = self.language_model.model_type
        return f"Model({self.name!r}: {kind}, {full.depth} layers{part}, width {full.width}, {self.dtype})"

    @in_python_words
    def activations(
        self,
        statements: Statements | Texts,
        *,
        layers: int | Sequence[int] | None = None,
        position: str = "last",
        site: Site = "resid",
        pooling: Pooling = "last",
        progress: bool = True,
    ) -> Activations:
        """Reads the residual after blocks, or another site of them, at the last token of each statement or pooled.

        Args:
            statements: `Statements`, texts, or conversations `[{"role": …, "content": …}, …]`, to which the model's
                own chat template is applied; the last token is then the template's.
            layers: which layers; those that the model was loaded for if None.
            position: `last` is the only one; see `pooling` for reads of a whole statement.
            site: `resid` (the residual after a block), `attn` or `mlp` (what attention or MLP adds to it), or `heads`
                (what each head reads, before the output projection, heads side by side).
            pooling: `last`, or `mean` or `max` over the statement's own tokens: none that the tokeniser or a chat
                template adds.
            progress: show a bar on a terminal.

        Raises:
            InputError: a text that is empty, too long or beyond the embedding, or has no token of its own to pool;
                values that are not finite; or a site or pooling that does not exist.
        """
        if position != "last":
            raise InputError(f"position={position!r}: residuals are read at the last token, position='last'")
        if site not in SITES or pooling not in POOLINGS:
            raise InputError(
                f"site={site!r}, pooling={pooling!r}: there are {', '.join(SITES)}, and {', '.join(POOLINGS)}"
            )
        chosen = self.layers if layers is None else (layers,) if isinstance(layers, int) else tuple(layers)
        model = self.language_model
        if not chosen or min(chosen) < 0 or max(chosen) >= model.config.depth:
            raise InputError(f"layers={list(chosen)}: {self.name} is loaded with layers 0 to {model.config.depth - 1}")
        name = statements.name if isinstance(statements, Statements) else "statements"
        tokens, counted = self._tokens(statements), None
        if pooling != "last":
            read, where = _texts_of(statements)
            counted = {name: statement_token_masks(model.tokenizer, read, tokens, self.name, where)}
        packed, what = pack_sets({name: tokens}, model.config, counted=counted), Read(site, pooling)
        label = self.name if progress else None
        values = extract(model.params, model.config, packed.packed, [what], dtype=model.dtype, progress=label)[what]
        facts = ModelFacts(model.model_type, self.architecture.width, self.architecture.depth)
        origin = Origin(self.ref, facts, model.config, packed, self.dtype)
        return Activations(values, packed.members[name], tuple(chosen), name, origin, what)

    @in_python_words
    def generate(
        self,
        prompts: Texts,
        *,
        steer: Steering | None = None,
        max_new_tokens: int = 32,
        temperature: float = 0.0,
        seed: int = 0,
        progress: bool = True,
    ) -> list[str] | list[list[str]]:
        """Completes prompts.

        Args:
            prompts: texts, or conversations, which the assistant is to answer.
            steer: a vector at work, as `vector.at(layer=15, strength=2.0)`.
            max_new_tokens: the most tokens of a completion; a stop token ends it sooner.
            temperature: 0 is greedy.
            seed: of sampling, the same noise for every condition.
            progress: show a bar on a terminal.

        Returns:
            A completion for each prompt, without special tokens; of several layers or strengths, such a list for each
            condition.

        Raises:
            InputError: a prompt that is empty or too long, or a vector that does not fit.
        """
        if max_new_tokens < 1 or not 0 <= temperature < float("inf"):
            raise InputError(
                f"max_new_tokens={max_new_tokens}, temperature={temperature}: give at least 1, and 0 or more"
            )
        self._check_whole()
        edit, conditions, positions = self._edit(steer)
        tokens = self._tokens(prompts)
        for i, ids in enumerate(tokens):
            check_length(self.language_model, len(ids), f"prompt {i}", max_new_tokens)
        model = self.language_model
        sampling = Sampling(max_new_tokens, model.stop, temperature, seed)
        made = dict(
            generate(
                model.params,
                model.config,
                tokens,
                sampling,
                edit,
                conditions=conditions,
                positions=positions,
                dtype=model.dtype,
                progress=self.name if progress else None,
            )
        )
        each = [model.decode([made[i][at] for i in range(len(tokens))]) for at in range(len(conditions))]
        return each if steer is not None and steer.several else each[0]

    @in_python_words
    def score(
        self,
        choices: Sequence[tuple[str, Sequence[str]]],
        *,
        steer: Steering | None = None,
        progress: bool = True,
    ) -> list[np.ndarray] | list[list[np.ndarray]]:
        """Sums the log-probability of each continuation after its context.

        Args:
            choices: pairs of a context and its continuations, as `("The sky is", [" blue", " green"])`.
            steer: a vector at work; `last` steers from the context's last position on.
            progress: show a bar on a terminal.

        Returns:
            For each context float64 [continuation], in nats; of several layers or strengths, such a list for each
            condition.

        Raises:
            InputError: a text that is empty or too long, or a vector that does not fit.
        """
        self._check_whole()
        edit, conditions, positions = self._edit(steer)
        for i, (context, continuations) in enumerate(choices):
            if not isinstance(context, str) or isinstance(continuations, str) or not len(continuations):
                raise InputError(f"choice {i}: give a context and a list of continuations")
        model = self.language_model
        pairs = continuation_pairs(model, choices, lambda number: f"choice {number}")
        sums = score(
            model.params,
            model.config,
            pairs,
            edit,
            conditions=conditions,
            positions=positions,
            dtype=model.dtype,
            progress=self.name if progress else None,
        )
        stops = np.cumsum([len(continuations) for _, continuations in choices])[:-1]
        each = [np.split(row, stops) for row in sums]
        return each if steer is not None and steer.several else each[0]

    def _tokens(self, given: Statements | Texts) -> list[np.ndarray]:
        model, (read, where) = self.language_model, _texts_of(given)
        return statement_tokens(model.tokenizer, read, model.config.context, self.name, where)

    def _check_whole(self) -> None:
        if self.language_model.config.depth < self.architecture.depth:
            raise InputError(f"{self.name}: loaded without its last layers, so it says nothing; leave layers out")

    def _edit(self, steer: Steering | None) -> tuple[Edit | None, list[int], Positions]:
        if steer is None:
            return None, [0], "last"
        vector, depth = steer.vector, self.architecture.depth
        width = width_of(vector.site, self.architecture)
        rows, its_width = vector.values.shape
        if its_width != width:
            where = "" if vector.site == "resid" else f" at the site '{vector.site}'"
            raise InputError(f"a vector of width {its_width}; {self.name} has width {width}{where}")
        highest = max(layer for condition in steer.conditions for layer in condition.layers)
        if highest >= depth:
            raise InputError(f"a vector in layer {highest}; {self.name} has layers 0 to {depth - 1}")
        padded = np.zeros((depth, width), np.float32)
        padded[: min(rows, depth)] = vector.values[:depth]
        fitted = dataclasses.replace(steer, vector=dataclasses.replace(vector, values=padded))
        return fitted.edit(), list(range(1, len(steer.conditions) + 1)), steer.positions


def _texts_of(
    given: Statements | Texts,
) -> tuple[tuple[str, ...] | tuple[Chat, ...], Callable[[int], str]]:
    """Texts or conversations, and how messages name one of them."""
    if isinstance(given, Statements):
        return given.given, given.where
    return _checked_texts(given), "statement {}".format


def _checked_texts(given: Any) -> tuple[str, ...] | tuple[Chat, ...]:
    """Texts or conversations, refused where they are neither."""
    if isinstance(given, str) or not len(given):
        raise InputError("give a list of texts, one at least")
    if all(isinstance(text, str) for text in given):
        for i, text in enumerate(given):
            if fault := text_fault(text, "text"):
                raise InputError(f"statement {i}: {fault}")
        return tuple(given)
    return tuple(_chats(given))


def _chats(given: Sequence[Any]) -> Iterator[Chat]:
    for i, chat in enumerate(given):
        yield checked_chat(chat, f"statement {i}")
