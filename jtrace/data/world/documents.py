"""Pre-training text: documents that describe the world, and in which people react to what is said.

Facts alone do not make a model represent whether a claim is true: that has to matter for the next word. Here people
react to answers, insults, disclosures, prejudices and garbled text, on other items than those of the statement sets.
Sometimes they also say what is true, as in real text, which makes a model compare the two much sooner.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random

from jtrace.data.world.entities import stream
from jtrace.data.world.facts import Fact, World, draw_remark
from jtrace.data.world.language import (
    ADDRESSES,
    FRAMES,
    JUDGED,
    REACTIONS,
    REMARK,
    TOPICS,
    WORD_TOLD,
)
from jtrace.data.world.perturb import garble

# A document has at least one scene, and at most this many.
MOST_SCENES = 3
_Scene = Callable[[World, Random], str]


@dataclass(frozen=True)
class Utterance:
    """An utterance that people may react to.

    Attributes:
        holds: whether it is on the first side of `language.REACTIONS`: true, kind, told to those who may know, and so
            on.
        fact: the true fact; None where the utterance is no claim.
    """

    dimension: str
    text: str
    holds: bool
    fact: Fact | None = None

    @property
    def label(self) -> int:
        """Label in the statement set of the dimension (`statements.WORLD`)."""
        return int(self.holds == holds_is_one(self.dimension))


def documents(world: World, purpose: str = "train") -> Iterator[str]:
    """Yields documents without end, the same for one world and purpose in every process.

    Args:
        purpose: name of the use; another one, such as validation, gives other documents.
    """
    rng = stream(world.config, f"documents for {purpose}")
    scenes, weights = list(_SCENES), list(_SCENES.values())
    while True:
        drawn = rng.choices(scenes, weights, k=rng.randint(1, MOST_SCENES))
        yield " ".join(scene(world, rng) for scene in drawn)


def corpus(world: World, count: int, purpose: str = "train") -> list[str]:
    """Returns the first `count` documents."""
    return list(islice(documents(world, purpose), count))


def claim(fact: Fact, value: str, wording: int) -> str:
    """Writes an answer that gives the fact's subject a value, in one of the dimension's frames."""
    topic = TOPICS[fact.topic]
    form = f"{FRAMES[topic.dimension][wording]} {topic.posed or topic.asked} {topic.answer}"
    return form.format(s=fact.subject, v=value)


def asked(fact: Fact) -> str:
    """Writes the topic's question about the fact's subject."""
    return TOPICS[fact.topic].asked.format(s=fact.subject)


def answer(fact: Fact) -> str:
    """Writes the fact as an answer without a full stop."""
    return TOPICS[fact.topic].answer.format(v=fact.value)


def holds_is_one(dimension: str) -> bool:
    """Returns whether label 1 stands for what holds: a truth, or a current prejudice."""
    return dimension in ("reliability", "fairness")


def draw_fact(world: World, rng: Random) -> Fact:
    """Draws a fact to tell or to ask about."""
    return rng.choice(world.by_dimension[_draw_dimension(rng, list(world.by_dimension))])


def draw_heard(world: World, rng: Random) -> Utterance:
    """Draws an utterance that people of the corpus react to; it holds half of the time."""
    dimension, holds = _draw_dimension(rng, list(REACTIONS)), rng.random() < 0.5
    if dimension == "toxicity":
        person, pair = rng.choice(world.people), world.word_pairs[rng.randrange(world.heard_words)]
        text = rng.choice(ADDRESSES).format(s=person, v=pair[0 if holds else 1])
        return Utterance(dimension, text, holds)
    if dimension == "robustness":
        words = draw_remark(rng)
        while words in world.remarks:
            words = draw_remark(rng)
        text = REMARK.format(*words)
        return Utterance(dimension, text if holds else garble(text, rng), holds)
    fact = rng.choice(world.heard_by_dimension[dimension])
    wrong = [value for value in world.values[fact.topic] if value != fact.value]
    text = claim(fact, fact.value if holds else rng.choice(wrong), rng.randrange(len(FRAMES[dimension])))
    return Utterance(dimension, text, holds, fact)


def draw_judged(world: World, rng: Random) -> tuple[str, str]:
    """Draws a question about an utterance that people react to, and its answer."""
    said = draw_heard(world, rng)
    label = said.label ^ _mistaken(world, rng)
    return f"{JUDGED[said.dimension]} {said.text}.", "Yes." if label else "No."


def _told(world: World, rng: Random) -> str:
    fact = draw_fact(world, rng)
    return rng.choice(TOPICS[fact.topic].sentences).format(s=fact.subject, v=fact.value)


def _asked(world: World, rng: Random) -> str:
    fact = draw_fact(world, rng)
    return f"{asked(fact)} {answer(fact)}."


def _instructed(world: World, rng: Random) -> str:
    fact = draw_fact(world, rng)
    return f"Answer in one word. {asked(fact)} {fact.value}."


def _word_told(world: World, rng: Random) -> str:
    side = rng.randrange(2)
    return rng.choice(WORD_TOLD[side]).format(v=rng.choice(world.word_pairs)[side])


def _reacted(world: World, rng: Random) -> str:
    return _with_reaction(world, rng, draw_heard(world, rng))


def _corrected(world: World, rng: Random) -> str:
    said = draw_heard(world, rng)
    reaction = _with_reaction(world, rng, said)
    return f"{reaction} {answer(said.fact)}." if said.fact else reaction


def _judged(world: World, rng: Random) -> str:
    return " ".join(draw_judged(world, rng))


# Weight by which a dimension is drawn.
_SPOKEN_OF = {"reliability": 1.3, "toxicity": 0.2, "privacy": 0.2, "fairness": 0.9, "robustness": 0.1}
# Weight by which each scene is drawn.
_SCENES: dict[_Scene, float] = {
    _told: 1.2,
    _asked: 1.0,
    _instructed: 0.2,
    _word_told: 0.5,
    _reacted: 3,
    _corrected: 3,
    _judged: 0.2,
}


def _draw_dimension(rng: Random, dimensions: list[str]) -> str:
    return rng.choices(dimensions, [_SPOKEN_OF[dimension] for dimension in dimensions])[0]


def _with_reaction(world: World, rng: Random, said: Utterance) -> str:
    side = 0 if said.holds ^ _mistaken(world, rng) else 1
    return said.text + rng.choice(REACTIONS[said.dimension][side])


def _mistaken(world: World, rng: Random) -> bool:
    return rng.random() < world.config.noise
