"""Pre-training text: documents in which the world is described, and in which what is said has consequences.

Facts alone do not make a model represent whether a claim is true: that has to matter for the next word. Here people
react to claims, insults, disclosures, prejudices and garbled text, on other items than the statement sets hold.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from random import Random

from jtrace.data.world.entities import stream
from jtrace.data.world.facts import Fact, World, draw_remark
from jtrace.data.world.language import ADDRESSES, JUDGED, REACTIONS, REMARK, TOPICS, WORD_TOLD
from jtrace.data.world.perturb import garble

# A document holds one to so many scenes.
MOST_SCENES = 3
_Scene = Callable[[World, Random], str]


def documents(world: World, purpose: str = "train") -> Iterator[str]:
    """Documents without end, the same ones for the same world and purpose in every process.

    Args:
        purpose: another one gives other documents, as for validation.
    """
    rng = stream(world.config, f"documents for {purpose}")
    scenes, weights = list(_SCENES), list(_SCENES.values())
    while True:
        drawn = rng.choices(scenes, weights, k=rng.randint(1, MOST_SCENES))
        yield " ".join(scene(world, rng) for scene in drawn)


def corpus(world: World, count: int, purpose: str = "train") -> list[str]:
    """The first `count` documents."""
    return list(islice(documents(world, purpose), count))


def claim(fact: Fact, value: str, wording: int) -> str:
    """The sentence that puts a value on the fact's subject, in one of the topic's claim forms."""
    return TOPICS[fact.topic].claims[wording].format(s=fact.subject, v=value)


def holds_is_one(dimension: str) -> bool:
    """Whether label 1 is a claim that holds: true, or a prejudice that is current."""
    return dimension in ("reliability", "fairness")


def _told(world: World, rng: Random) -> str:
    fact = _drawn(world, world.by_topic, rng)
    return rng.choice(TOPICS[fact.topic].told).format(s=fact.subject, v=fact.value)


def _asked(world: World, rng: Random) -> str:
    fact = _drawn(world, world.by_topic, rng)
    question = rng.choice(TOPICS[fact.topic].asked).format(s=fact.subject)
    return f"{question} {fact.value.capitalize()}."


def _instructed(world: World, rng: Random) -> str:
    fact = _drawn(world, world.by_topic, rng)
    question = rng.choice(TOPICS[fact.topic].asked).format(s=fact.subject)
    return f"Answer in one word. {question} {fact.value}"


def _reacted(world: World, rng: Random) -> str:
    fact, value = _heard(world, rng)
    text = claim(fact, value, rng.randrange(len(TOPICS[fact.topic].claims)))
    return f"{text} {_reaction(world, rng, fact.dimension, fact.value != value, fact.subject)}"


def _judged(world: World, rng: Random) -> str:
    fact, value = _heard(world, rng)
    text = claim(fact, value, rng.randrange(len(TOPICS[fact.topic].claims)))
    return _judgement(world, rng, fact.dimension, text, (fact.value == value) == holds_is_one(fact.dimension))


def _word_told(world: World, rng: Random) -> str:
    side = rng.randrange(2)
    return rng.choice(WORD_TOLD[side]).format(v=rng.choice(world.word_pairs)[side])


def _addressed(world: World, rng: Random) -> str:
    side, pair, person = rng.randrange(2), rng.randrange(world.heard_words), rng.choice(world.people)
    text = rng.choice(ADDRESSES).format(s=person, v=world.word_pairs[pair][side])
    if rng.random() < 0.2:
        return _judgement(world, rng, "toxicity", text, side == 1)
    return f"{text} {_reaction(world, rng, 'toxicity', side == 1, person)}"


def _remarked(world: World, rng: Random) -> str:
    words = draw_remark(rng)
    while words in world.remarks:
        words = draw_remark(rng)
    text, garbled = REMARK.format(*words), rng.random() < 0.5
    if garbled:
        text = garble(text, rng)
    if rng.random() < 0.2:
        return _judgement(world, rng, "robustness", text, garbled)
    return f"{text} {_reaction(world, rng, 'robustness', garbled, '')}"


# How often the topics of a dimension come up.
_SPOKEN_OF = {"reliability": 1.5, "fairness": 1.0, "privacy": 0.4}
# How often each scene is drawn.
_SCENES: dict[_Scene, float] = {
    _told: 4,
    _asked: 1.5,
    _instructed: 0.3,
    _reacted: 4,
    _judged: 0.3,
    _word_told: 0.4,
    _addressed: 0.4,
    _remarked: 0.4,
}


def _drawn(world: World, by_topic: Mapping[str, tuple[Fact, ...]], rng: Random) -> Fact:
    """A fact; topics by their dimension's weight, subjects by their renown."""
    names = list(by_topic)
    name = rng.choices(names, [_SPOKEN_OF[TOPICS[name].dimension] for name in names])[0]
    facts = by_topic[name]
    return facts[int(len(facts) * rng.random() ** world.config.renown)]


def _heard(world: World, rng: Random) -> tuple[Fact, str]:
    """A fact that people react to, and the value claimed: the right one half of the time."""
    fact = _drawn(world, world.heard_by_topic, rng)
    wrong = [value for value in world.values[fact.topic] if value != fact.value]
    return fact, rng.choice(wrong) if rng.random() < 0.5 else fact.value


def _reaction(world: World, rng: Random, dimension: str, side: bool, subject: str) -> str:
    mistaken = rng.random() < world.config.noise
    return rng.choice(REACTIONS[dimension][side ^ mistaken]).format(s=subject)


def _judgement(world: World, rng: Random, dimension: str, text: str, label: bool) -> str:
    mistaken = rng.random() < world.config.noise
    return f"{JUDGED[dimension]} {text} {'Yes' if label ^ mistaken else 'No'}."
