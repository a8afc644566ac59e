"""jtrace's decoder as a model of lm-eval, under several conditions at once.

Texts become tokens as in lm-eval's own model `hf`, by its own functions where it has them; all requests of a call are
packed together, and share what their beginnings share. Axes: N requests, C conditions.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import has_bos_prefix
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from jtrace.data.corpus.chat_template import ChatTemplate, TemplateError, conversation_template
from jtrace.data.tokenizer import ANOTHER
from jtrace.errors import InputError
from jtrace.evaluation.answers import Completions, Decoding
from jtrace.evaluation.harness.decoding import CompletionSettings
from jtrace.inference.generate import generate
from jtrace.inference.language_model import LanguageModel
from jtrace.inference.score import Scores, score_and_compare
from jtrace.models.intervention import Edit
from jtrace.runtime.foreign import foreign_rust

# A log-likelihood in nats, and whether the continuation is the greedy one.
Likelihood = tuple[float, bool]


class HarnessModel(TemplateLM):
    """A language model under one or more conditions; lm-eval sees the first of them.

    Args:
        edit: edits of every layer and condition, see `jtrace.steering.vector.edit_of`; None for the model as it is.
        conditions: indices of the wanted conditions.
        max_length: the most tokens that are read at once; the model's context if None.
        add_bos_token: whether special tokens are put before texts; as the tokeniser does if None.
        prefix_token_id: the token that is put before what has nothing before it; as `hf` does if None: that which
            begins a text, else that which ends one.
        progress: label of progress bars; none is shown if None.

    Raises:
        InputError: a length that the model's context does not hold.
    """

    def __init__(
        self,
        model: LanguageModel,
        edit: Edit | None = None,
        conditions: Sequence[int] = (0,),
        how: Decoding | None = None,
        *,
        max_length: int | None = None,
        add_bos_token: bool | None = None,
        prefix_token_id: int | None = None,
        progress: str | None = None,
    ) -> None:
        super().__init__()
        if max_length is not None and not 1 <= max_length <= model.config.context:
            raise InputError(f"max_length={max_length}: the context of {model.name} is {model.config.context}")
        self.model, self.tokenizer = model, model.tokenizer
        self._edit, self._conditions, self._how = edit, list(conditions), how or Decoding()
        self._max_length, self._add_bos, self._prefix = max_length, add_bos_token, prefix_token_id
        self._progress = progress

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        return self.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:
        """The token that is put before what has nothing before it."""
        chosen = self._known_prefix
        if chosen is None:
            raise InputError(
                f"{self.model.name}: the tokeniser has no token that begins or ends a text, which lm-eval puts before "
                "a text that has nothing before it; name one by prefix_token_id"
            )
        return chosen

    @property
    def _known_prefix(self) -> int | None:
        known = (self._prefix, self.tokenizer.bos_token_id, self.tokenizer.eos_token_id)
        return next((token for token in known if token is not None), None)

    @property
    def max_length(self) -> int:
        """The most tokens that are read at once."""
        return self._max_length or self.model.config.context

    @property
    def tokenizer_name(self) -> str:
        """Name of the tokeniser, for lm-eval's cache of requests."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Encodes a text as `hf` does: a text that begins as texts do in the model is given no special tokens."""
        special = self._add_bos if add_special_tokens is None else add_special_tokens
        if add_special_tokens is None and has_bos_prefix(string, self._prefix_text):
            special = False
        return self._encoded(string, special)

    def loglikelihoods(self, requests: Sequence[Instance]) -> list[list[Likelihood]]:
        """Log-likelihoods of continuations, [N][C]; an empty context is the token before all texts.

        Raises:
            InputError: a continuation without tokens, or longer than what is read at once.
        """
        # Its pairs come back to `_loglikelihood_tokens`.
        return super().loglikelihood(list(requests), disable_tqdm=True)

    def loglikelihood(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[Likelihood]:
        """Log-likelihoods of continuations under the first condition; see `loglikelihoods`."""
        return [by_condition[0] for by_condition in self.loglikelihoods(requests)]

    def rolling_loglikelihoods(self, requests: Sequence[Instance]) -> list[list[float]]:
        """Log-likelihoods of whole texts in lm-eval's windows, [N][C]."""
        pairs, owners = [], []
        for owner, request in enumerate(requests):
            (text,) = request.args
            ids = self.tok_encode(text)
            for window in get_rolling_token_windows(ids, self.prefix_token_id, self.max_length, context_len=1):
                pairs.append(make_disjoint_window(window))
                owners.append(owner)
        sums = self._scores(pairs).sums
        return np.stack([np.bincount(owners, row, len(requests)) for row in sums], axis=1).tolist()

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[float]:
        """Log-likelihoods of whole texts under the first condition; see `rolling_loglikelihoods`."""
        return [by_condition[0] for by_condition in self.rolling_loglikelihoods(requests)]

    def settings(self, generation: Mapping[str, Any], where: str = "generate_until") -> CompletionSettings:
        """Settings of completions, see `CompletionSettings.of`: the tokeniser's end of text ends them too."""
        end = self.eot_token_id
        text = None if end is None else str(self.tokenizer.decode([end], skip_special_tokens=False))
        return CompletionSettings.of(generation, text, where)

    def room(self, settings: CompletionSettings) -> int:
        """The most tokens of a context, of which the last are read.

        Raises:
            InputError: completions may be as long as what is read at once, which leaves no room.
        """
        room = self.max_length - settings.max_new_tokens
        if room < 1:
            raise InputError(
                f"{self.model.name}: completions of up to {settings.max_new_tokens} tokens leave no room in a context "
                f"of {self.max_length}; ask for fewer by max_gen_toks"
            )
        return room

    def completions(
        self,
        contexts: Sequence[str],
        settings: CompletionSettings,
        *,
        numbers: Sequence[int] | None = None,
        keep: Callable[[int, Completions], None] | None = None,
    ) -> dict[int, Completions]:
        """Tokens of completions by the context's number, for every condition.

        Args:
            numbers: a number for each context, for the noise of sampling; its place if None.
            keep: is told each context's completions as soon as they are there.

        Raises:
            InputError: see `room`; or a context without tokens.
        """
        room = self.room(settings)
        prompts = [np.array(self._prompt(context)[-room:], np.int32) for context in contexts]
        for context, prompt in zip(contexts, prompts, strict=True):
            if not len(prompt):
                raise InputError(f"{self.model.name}: the tokeniser makes no token of the prompt {context[:40]!r}")
        made = generate(
            self.model.params,
            self.model.config,
            prompts,
            settings.sampling(self.model, self._how.seed),
            self._edit,
            numbers=numbers,
            conditions=self._conditions,
            positions=self._how.positions,
            dtype=self.model.dtype,
            has_ended=settings.has_ended(self.model),
            progress=self._progress,
        )
        by_number = {}
        for number, tokens in made:
            by_number[number] = tokens
            if keep is not None:
                keep(number, tokens)
        return by_number

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """Completions under the first condition, without what ends them; requests of like settings are one batch."""
        by_settings: dict[CompletionSettings, list[int]] = {}
        for number, request in enumerate(requests):
            by_settings.setdefault(self.settings(request.args[1]), []).append(number)
        texts = {}
        for settings, numbers in by_settings.items():
            contexts = [requests[number].args[0] for number in numbers]
            for number, tokens in self.completions(contexts, settings, numbers=numbers).items():
                texts[number] = settings.text(self.model, tokens[0])
        return [texts[number] for number in range(len(requests))]

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Writes a conversation with the model's own template, in a process of its own.

        Args:
            add_generation_prompt: end it where the assistant is to speak, else within its last message.

        Raises:
            InputError: there is no template, or it fails.
        """
        written = conversation_template(self.tokenizer)
        if not written:
            raise InputError(f"{self.model.name}: the tokeniser has no chat template; leave --apply_chat_template out")
        if self._template is None:
            self._template = ChatTemplate(written, self.tokenizer.special_tokens_map)
        try:
            text = self._rendered(chat_history, add_generation_prompt)
        except TemplateError as error:
            raise InputError(f"{self.model.name}: the chat template refuses a conversation ({error})") from None
        if add_generation_prompt:
            return text
        last = chat_history[-1]["content"].strip()
        return text[: text.rindex(last) + len(last)] if last in text else text

    _template: ChatTemplate | None = None

    def _rendered(self, chat_history: list[dict[str, str]], prompt: bool) -> str:
        assert self._template is not None
        try:
            return self._template.render(chat_history, prompt)
        except TemplateError:  # some templates know no message of the system, and `hf` drops it then
            without = [message for message in chat_history if message["role"] != "system"]
            if len(without) == len(chat_history):
                raise
            return self._template.render(without, prompt)

    def _loglikelihood_tokens(self, requests: Sequence[Any], **_: Any) -> list[list[Likelihood]]:
        scores = self._scores([(before, after) for _, before, after in requests])
        return [
            list(zip(sums, greedy, strict=True))
            for sums, greedy in zip(scores.sums.T.tolist(), scores.greedy.T.tolist(), strict=True)
        ]

    def _scores(self, pairs: Sequence[tuple[list[int], list[int]]]) -> Scores:
        """Scores contexts and continuations; of one that is too long, the context's beginning is left out."""
        fitted = []
        for before, after in pairs:
            if not 0 < len(after) <= self.max_length:
                raise InputError(
                    f"{self.model.name}: a continuation of {len(after)} tokens; lm-eval scores 1 to {self.max_length}"
                )
            kept = (before + after)[-(self.max_length + 1) :]
            fitted.append((np.array(kept[: -len(after)], np.int32), np.array(after, np.int32)))
        return score_and_compare(
            self.model.params,
            self.model.config,
            fitted,
            self._edit,
            conditions=self._conditions,
            positions=self._how.positions,
            dtype=self.model.dtype,
            progress=self._progress,
        )

    def _prompt(self, context: str) -> list[int]:
        begun = has_bos_prefix(context, self.tokenizer.bos_token)
        return self._encoded(context, False if begun else self._add_bos)

    @property
    def _prefix_text(self) -> str | None:
        known = self._known_prefix
        return None if known is None else str(self.tokenizer.decode([known]))

    def _encoded(self, text: str, special: bool | None) -> list[int]:
        given = {} if special is None else {"add_special_tokens": special}
        with foreign_rust(self.model.name, "the tokeniser cannot tokenise a text", ANOTHER):
            return self.tokenizer.encode(text, **given)
