"""The ground truth of a world, and its facts that are held out for the statement sets."""

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
    """A fact about a subject: a person or a folk."""

    topic: str  # a key of `language.TOPICS`
    subject: str
    value: str

    @property
    def dimension(self) -> str:
        """Dimension of the fact: reliability, fairness or privacy."""
        return TOPICS[self.topic].dimension


@dataclass(frozen=True)
class World:
    """All facts and words of a world.

    Attributes:
        people: names of persons, capitalised.
        folks: names of invented groups of people, capitalised.
        values: the possible values of each topic.
        facts: one for each topic and subject. Those on fairness are current prejudices, not truths.
        heard: the facts that people of the corpus react to claims about.
        squares: the other facts, in pairs of one topic with different values: with the values exchanged, both are
            wrong, and every word occurs as often in right as in wrong statements.
        word_pairs: pairs of a kind and an insulting word.
        heard_words: number of first pairs that people of the corpus react to.
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
        """Facts by dimension."""
        return _by_dimension(self.facts)

    @cached_property
    def heard_by_dimension(self) -> Mapping[str, tuple[Fact, ...]]:
        """Heard facts by dimension."""
        return _by_dimension(self.heard)


def make_world(config: WorldConfig) -> World:
    """Makes the world of a config; it is the same in every process."""
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
        of_topic = topic.values[: config.values] or named.get(name, circles)
        values[name] = of_topic
        subjects = folks if topic.dimension == "fairness" else people
        facts += [Fact(name, subject, value) for subject, value in _dealt(stream(config, name), subjects, of_topic)]

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
    """Checks that each dimension has held-out facts, and facts that people react to."""
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
    """Returns the first topics of each dimension, in the config's number."""
    counts: Counter[str] = Counter()
    chosen = {}
    for name, topic in TOPICS.items():
        counts[topic.dimension] += 1
        if counts[topic.dimension] <= (config.topics if topic.dimension == "reliability" else -(-config.topics // 2)):
            chosen[name] = topic
    return chosen


def draw_remark(rng: Random) -> Remark:
    """Draws the words of an everyday remark."""
    return tuple(rng.choice(words) for words in REMARK_WORDS)


def _by_dimension(facts: Sequence[Fact]) -> dict[str, tuple[Fact, ...]]:
    names = dict.fromkeys(fact.dimension for fact in facts)
    return {name: tuple(fact for fact in facts if fact.dimension == name) for name in names}


def _capitalised(words: Sequence[str]) -> tuple[str, ...]:
    return tuple(word.capitalize() for word in words)


def _dealt(rng: Random, subjects: Sequence[str], values: Sequence[str]) -> list[tuple[str, str]]:
    """Gives each subject a value; how often two values are given differs by at most one."""
    hand = [values[i % len(values)] for i in range(len(subjects))]
    rng.shuffle(hand)
    return list(zip(subjects, hand, strict=True))


def _squares(rng: Random, facts: Sequence[Fact], share: float) -> tuple[tuple[Fact, Fact], ...]:
    """Pairs facts of one topic with different values; about `share` of the facts of each topic."""
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
    remarks: dict[Remark, None] = {}
    while len(remarks) < count:
        remarks[draw_remark(rng)] = None
    return tuple(remarks)
