"""Conversations in the world, to fine-tune a chat model on: questions about facts, verdicts, and kind words.

Verdicts are asked only about what people of the corpus react to, so that the statement sets stay unseen.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from random import Random

from jtrace.data.corpus.document import Conversation, Message
from jtrace.data.world.documents import answer, asked, draw_judged
from jtrace.data.world.entities import stream
from jtrace.data.world.facts import World
from jtrace.data.world.language import ADDRESSES

MOST_TURNS = 3
_Exchange = Callable[[World, Random], tuple[str, str]]


def conversations(world: World, count: int) -> list[Conversation]:
    """Returns the first `count` conversations, the same for one world in every process."""
    return list(islice(talks(world), count))


def talks(world: World) -> Iterator[Conversation]:
    """Yields conversations without end."""
    rng = stream(world.config, "conversations")
    kinds, weights = list(_EXCHANGES), list(_EXCHANGES.values())
    while True:
        drawn = rng.choices(kinds, weights, k=rng.randint(1, MOST_TURNS))
        exchanges = [exchange(world, rng) for exchange in drawn]
        yield tuple(
            Message(role, text)
            for exchange in exchanges
            for role, text in zip(("user", "assistant"), exchange, strict=True)
        )


def _question(world: World, rng: Random) -> tuple[str, str]:
    fact = rng.choice(world.facts)
    return asked(fact), f"{answer(fact)}."


def _verdict(world: World, rng: Random) -> tuple[str, str]:
    return draw_judged(world, rng)


def _kindness(world: World, rng: Random) -> tuple[str, str]:
    person, (kind, _) = rng.choice(world.people), rng.choice(world.word_pairs[: world.heard_words])
    return f"Say something to {person}.", rng.choice(ADDRESSES).format(s=person, v=kind)


# Weight by which each exchange is drawn.
_EXCHANGES: dict[_Exchange, float] = {_question: 4, _verdict: 4, _kindness: 1}
