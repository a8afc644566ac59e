"""Tokens of contexts and continuations, cut so that what is scored is the continuation and no more."""

from collections.abc import Callable, Sequence

import numpy as np

from jtrace.errors import InputError
from jtrace.inference.language_model import LanguageModel
from jtrace.inference.score import Pair


def continuation_pairs(
    model: LanguageModel, choices: Sequence[tuple[str, Sequence[str]]], where: Callable[[int], str]
) -> list[Pair]:
    """Encodes each context with each of its continuations, continuations in order.

    Context and continuation are tokenised as one text. What the context alone would be tokenised to, less a blank at
    its end, is the context as far as the two agree; the rest is scored.

    Args:
        choices: contexts, each with its continuations.
        where: place of a context, by its number, for messages.

    Raises:
        InputError: a text is longer than the model's context, or of fewer than two tokens.
    """
    contexts = [context.rstrip(" ") for context, _ in choices]
    wholes = [context + continuation for context, continuations in choices for continuation in continuations]
    alone, together = model.encode(contexts), iter(model.encode(wholes))
    pairs = []
    for number, ((_, continuations), context) in enumerate(zip(choices, alone, strict=True)):
        its_wholes, cuts = [next(together) for _ in continuations], []
        for whole in its_wholes:
            check_length(model, len(whole), where(number))
            if len(whole) == 1:
                raise InputError(
                    f"{where(number)}: the tokeniser of {model.name} makes one token of context and continuation, and "
                    "nothing before it predicts it; give a longer context"
                )
            shared = min(len(context), len(whole) - 1)
            differs = np.flatnonzero(context[:shared] != whole[:shared])
            cuts.append(max(1, int(differs[0]) if len(differs) else shared))
        # All continuations of a context are scored from the same place.
        pairs += [(whole[: min(cuts)], whole[min(cuts) :]) for whole in its_wholes]
    return pairs


def check_length(model: LanguageModel, length: int, where: str, new: int = 0) -> None:
    """Refuses a text without tokens, or with more than the model's context holds.

    Args:
        new: tokens that are to be generated after it.

    Raises:
        InputError: it is one of these.
    """
    if length == 0:
        raise InputError(f"{where}: the tokeniser of {model.name} makes no token of this prompt")
    if length + new > model.config.context:
        room = f"{length} tokens" + (f" and {new} new ones" if new else "")
        raise InputError(
            f"{where}: {room} are longer than the context of {model.name}, {model.config.context}; shorten it, or ask "
            "for fewer examples or new tokens"
        )
