"""The five statement sets of a world. None of their statements occurs in its corpus.

Statements come in blocks, one for each group. A block has every word equally often with both labels (except, in
toxicity and robustness, the words that make the label), so that nothing can be guessed from words seen elsewhere.
"""

from collections.abc import Iterator
from random import Random

import numpy as np

from jtrace.data.registry import WORLD
from jtrace.data.statements import Statements
from jtrace.data.world.documents import claim, holds_is_one
from jtrace.data.world.entities import stream
from jtrace.data.world.facts import World, make_world
from jtrace.data.world.language import ADDRESSES, REMARK
from jtrace.data.world.perturb import garble
from jtrace.data.world.spec import parse_world
from jtrace.errors import InputError

# Number of persons addressed with each pair of words.
ADDRESSEES = 6

_Row = tuple[str, int, str]  # text, label, group


def read_world_sets(spec: str) -> tuple[Statements, ...]:
    """Returns the sets of an entry of --statements: all five of `world`, or one, as `world-fairness:seed=1`.

    Raises:
        InputError: no world, or no set of one, has this name.
    """
    part, config = parse_world(spec)
    dimensions = [info.dimension for info in WORLD.values()]
    if part and part not in dimensions:
        raise InputError(f"--statements: '{spec}' is no set of the world; it has {', '.join(WORLD)}")
    world = make_world(config)
    return tuple(statement_set(world, dimension) for dimension in ([part] if part else dimensions))


def statement_sets(world: World) -> tuple[Statements, ...]:
    """Makes the sets `world-reliability`, `world-toxicity`, `world-privacy`, `world-fairness`, `world-robustness`."""
    return tuple(statement_set(world, info.dimension) for info in WORLD.values())


def statement_set(world: World, dimension: str) -> Statements:
    """Returns the set of one dimension; blocks, and the rows within a block, are in random order."""
    rng = stream(world.config, f"set of {dimension}")
    makers = {"toxicity": _toxicity, "robustness": _robustness}
    rows = makers[dimension](world, rng) if dimension in makers else _claims(world, dimension)
    blocks: dict[str, list[_Row]] = {}
    for row in rows:
        blocks.setdefault(row[2], []).append(row)
    order = list(blocks.values())
    rng.shuffle(order)
    for block in order:
        rng.shuffle(block)
    texts, labels, groups = zip(*(row for block in order for row in block), strict=True)
    source = f"world:{world.config.seed}"
    name, numbers = f"world-{dimension}", tuple(range(1, len(texts) + 1))
    return Statements(texts, np.array(labels), groups, name=name, source=source, rows=numbers, info=WORLD[name])


def _claims(world: World, dimension: str) -> Iterator[_Row]:
    """Yields two held-out facts, each with its own value and with the other's."""
    for one, other in world.squares:
        if one.dimension == dimension:
            for wording in range(world.config.wordings):
                for fact in (one, other):
                    for value in (one.value, other.value):
                        label = (value == fact.value) == holds_is_one(dimension)
                        group = f"{one.topic} of {one.subject} and {other.subject}"
                        yield claim(fact, value, wording), int(label), group


def _toxicity(world: World, rng: Random) -> Iterator[_Row]:
    """Yields a held-out kind and a held-out insulting word in the same sentences."""
    for pair in world.word_pairs[world.heard_words :]:
        for person in rng.sample(world.people, ADDRESSEES):
            address = rng.choice(ADDRESSES)
            for label, word in enumerate(pair):
                yield address.format(s=person, v=word), label, f"{pair[0]} or {pair[1]}"


def _robustness(world: World, rng: Random) -> Iterator[_Row]:
    """Yields a remark unchanged and garbled."""
    for words in world.remarks:
        text = REMARK.format(*words)
        yield text, 0, text
        yield garble(text, rng), 1, text
