"""Settings of completions as lm-eval asks for them: how long, how chosen, and the texts that end them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text

from jtrace.errors import InputError
from jtrace.inference.generate import Sampling
from jtrace.inference.language_model import LanguageModel

MOST_NEW_TOKENS = 256  # where a task does not say, as of lm-eval's `hf`
# Settings of sampling, which a greedy choice does not look at, and values of others that change nothing.
OF_SAMPLING = ("top_k", "top_p", "min_p", "typical_p")
OF_NO_EFFECT = {"num_beams": 1, "repetition_penalty": 1, "length_penalty": 1, "no_repeat_ngram_size": 0}
OF_NO_EFFECT |= {"top_p": 1, "top_k": 0, "min_p": 0, "typical_p": 1, "use_cache": True, "num_return_sequences": 1}


@dataclass(frozen=True)
class CompletionSettings:
    """Settings of completions.

    Attributes:
        until: texts that end a completion, and are no part of it.
        max_new_tokens: the most tokens.
        temperature: 0 takes the most probable token.
    """

    until: tuple[str, ...]
    max_new_tokens: int
    temperature: float

    @classmethod
    def of(cls, generation: Mapping[str, Any], end_of_text: str | None, where: str) -> "CompletionSettings":
        """Reads `generation_kwargs` as lm-eval's own models do.

        Args:
            end_of_text: a text that ends a completion whatever is asked; None for none.
            where: a task or request, for messages.

        Raises:
            InputError: a setting that jtrace does not know, or a value that is none.
        """
        try:
            values: dict[str, Any] = dict(normalize_gen_kwargs(dict(generation), MOST_NEW_TOKENS))
            until = tuple(handle_stop_sequences(values.pop("until"), eos=end_of_text))
            most, temperature = int(values.pop("max_gen_toks")), float(values.pop("temperature", 0.0))
        except (TypeError, ValueError) as error:
            raise InputError(f"{where}: generation_kwargs cannot be read ({error}); mend the task's file") from None
        samples = bool(values.pop("do_sample", False)) and temperature > 0
        for name, value in values.items():
            if value is None or (name in OF_SAMPLING and not samples) or OF_NO_EFFECT.get(name) == value:
                continue
            raise InputError(f"{where}: generation_kwargs has {name}={value!r}; jtrace takes do_sample and temperature")
        if most < 1 or not 0 <= temperature < float("inf") or not all(isinstance(text, str) for text in until):
            raise InputError(f"{where}: generation_kwargs has {dict(generation)}; give numbers and texts that can be")
        return cls(until, most, temperature if samples else 0.0)

    def sampling(self, model: LanguageModel, seed: int) -> Sampling:
        """Settings of `jtrace.inference.generate`: the tokeniser's end of text ends a completion beside the model's."""
        end = model.tokenizer.eos_token_id
        stop = model.stop if end is None or end in model.stop else (*model.stop, end)
        return Sampling(self.max_new_tokens, stop, self.temperature, seed)

    def text(self, model: LanguageModel, tokens: np.ndarray) -> str:
        """Decodes a completion, without what ends it and all behind."""
        return postprocess_generated_text(model.decode([tokens])[0], list(self.until), None)

    def has_ended(self, model: LanguageModel) -> Callable[[np.ndarray], bool] | None:
        """The function that tells whether a completion's tokens hold what ends it; None where only tokens end one."""
        special = {str(token) for token in model.tokenizer.all_special_tokens}
        texts = [text for text in self.until if text and text not in special]
        if not texts:
            return None
        return lambda tokens: any(text in model.decode([tokens])[0] for text in texts)
