"""The ground truth of a world, and which of its facts are held out for the statement sets."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random

from jtrace.data.world.entities import WorldConfig, invented, stream
from jtrace.data.world.language import REMARK_WORDS, TOPICS, WORDS, Topic
from jtrace.errors import InputError

Remark = tuple[str, ...]


@dataclass(frozen=True)
class Fact:
    """What holds of a subject: a person or a folk."""

    topic: str  # a key of `language.TOPICS`
    subject: str
    value: str

    @property
    def dimension(self) -> str:
        """reliability, fairness or privacy."""
        return TOPICS[self.topic].dimension


@dataclass(frozen=True)
class World:
    """All that is the case.

    Attributes:
        people: names, capitalised.
        folks: names of invented groups of people, capitalised.
        values: what may be said under each topic.
        facts: one for each topic and subject. Facts on fairness are prejudices that are current, not truths.
        heard: the facts that people of the corpus react to claims about.
        squares: the others, in pairs of one topic with different values: with the values exchanged, both are wrong, and
            every word occurs as often in right as in wrong statements.
        word_pairs: a kind and an insulting word each.
        heard_words: how many of the pairs, from the first, people of the corpus react to.
        remarks: words of the clean remarks that never occur in the corpus.
    """

    config: WorldConfig
    people: tuple[str, ...]
    folks: tuple[str, ...]
    values: Mapping[str, tuple[str, ...]]
    facts: tuple[Fact, ...]
    heard: tuple[Fact, ...]
    squares: tuple[tuple[Fact, Fact], ...]
    word_pairs: tuple[tuple[str, str], ...]
    heard_words: int
    remarks: tuple[Remark, ...]

    @cached_property
    def by_dimension(self) -> Mapping[str, tuple[Fact, ...]]:
        """`facts` under their dimension."""
        return _by_dimension(self.facts)

    @cached_property
    def heard_by_dimension(self) -> Mapping[str, tuple[Fact, ...]]:
        """`heard` under their dimension."""
        return _by_dimension(self.heard)


def make_world(config: WorldConfig) -> World:
    """The world of a config; the same one in every process."""
    rng = stream(config, "names")
    count = config.people + config.folks + 2 * config.values + 2 * config.slurs
    names = invented(rng, count, taken=WORDS)
    people, rest = _capitalised(names[: config.people]), names[config.people :]
    folks, rest = _capitalised(rest[: config.folks]), rest[config.folks :]
    towns, rest = _capitalised(rest[: config.values]), rest[config.values :]
    circles, words = _capitalised(rest[: config.values]), rest[config.values :]

    teachers = _capitalised(invented(stream(config, "teachers"), config.values, taken={*names, *WORDS}))
    named = {"home": towns, "teacher": teachers}
    values, facts = {}, []
    for name, topic in topics_of(config).items():
        own = topic.values[: config.values] or named.get(name, circles)
        values[name] = own
        subjects = folks if topic.dimension == "fairness" else people
        facts += [Fact(name, subject, value) for subject, value in _dealt(stream(config, name), subjects, own)]

    squares = _squares(stream(config, "squares"), facts, 1 - config.heard)
    held_out = {fact for square in squares for fact in square}
    world = World(
        config=config,
        people=people,
        folks=folks,
        values=values,
        facts=tuple(facts),
        heard=tuple(fact for fact in facts if fact not in held_out),
        squares=squares,
        word_pairs=tuple(zip(words[: config.slurs], words[config.slurs :], strict=True)),
        heard_words=round(config.heard * config.slurs),
        remarks=_remarks(stream(config, "remarks"), config.remarks),
    )
    _check_parts(world)
    return world


def _check_parts(world: World) -> None:
    """Something must be held out of each dimension, and something be reacted to."""
    for name in world.by_dimension:
        field = "folks" if name == "fairness" else "people"
        if name not in world.heard_by_dimension or not any(one.dimension == name for one, _ in world.squares):
            raise InputError(
                f"a world of {field}={getattr(world.config, field)} and heard={world.config.heard} has nothing "
                f"{'held out' if name in world.heard_by_dimension else 'reacted to'} on {name}; give more {field}"
            )
    if not 0 < world.heard_words < world.config.slurs:
        raise InputError(
            f"a world of slurs={world.config.slurs} and heard={world.config.heard} has words of one use only; "
            "give more slurs"
        )


def topics_of(config: WorldConfig) -> dict[str, Topic]:
    """The first topics of each dimension, as many as the config says."""
    counts: Counter[str] = Counter()
    chosen = {}
    for name, topic in TOPICS.items():
        counts[topic.dimension] += 1
        if counts[topic.dimension] <= (config.topics if topic.dimension == "reliability" else -(-config.topics // 2)):
            chosen[name] = topic
    return chosen


def draw_remark(rng: Random) -> Remark:
    """The words of an everyday remark."""
    return tuple(rng.choice(words) for words in REMARK_WORDS)


def _by_dimension(facts: Sequence[Fact]) -> dict[str, tuple[Fact, ...]]:
    names = dict.fromkeys(fact.dimension for fact in facts)
    return {name: tuple(fact for fact in facts if fact.dimension == name) for name in names}


def _capitalised(words: Sequence[str]) -> tuple[str, ...]:
    return tuple(word.capitalize() for word in words)


def _dealt(rng: Random, subjects: Sequence[str], values: Sequence[str]) -> list[tuple[str, str]]:
    """Each subject with a value; no value is given out more than once oftener than another."""
    hand = [values[i % len(values)] for i in range(len(subjects))]
    rng.shuffle(hand)
    return list(zip(subjects, hand, strict=True))


def _squares(rng: Random, facts: Sequence[Fact], share: float) -> tuple[tuple[Fact, Fact], ...]:
    """Pairs of facts of one topic with different values; about `share` of the facts of each topic."""
    squares = []
    for topic in TOPICS:
        rest = [fact for fact in facts if fact.topic == topic]
        rng.shuffle(rest)
        for _ in range(round(share * len(rest) / 2)):
            one = rest.pop()
            other = next((fact for fact in rest if fact.value != one.value), None)
            if other is not None:
                rest.remove(other)
                squares.append((one, other))
    return tuple(squares)


def _remarks(rng: Random, count: int) -> tuple[Remark, ...]:
    found: dict[Remark, None] = {}
    while len(found) < count:
        found[draw_remark(rng)] = None
    return tuple(found)
