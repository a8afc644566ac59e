"""The size of the invented world, and its names, which are made of syllables."""

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from jtrace.errors import InputError

_ONSETS = ("b", "d", "f", "g", "h", "j", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "br", "dr", "gl", "kr", "tr")
_VOWELS = ("a", "e", "i", "o", "u")
_CODAS = ("", "", "l", "m", "n", "r", "s")


@dataclass(frozen=True)
class WorldConfig:
    """Settings of a world's size and difficulty.

    Attributes:
        seed: seed of all draws; any integer.
        people: number of named persons.
        folks: number of invented groups of people, which prejudices are about.
        topics: number of facts about a person; half as many, rounded up, are kinds of prejudice about a folk, and kinds
            of secret of a person.
        values: number of towns, trades, …, and traits that a subject may have; more are harder to learn.
        slurs: number of insulting words, and of kind ones.
        remarks: number of clean remarks in the robustness set.
        wordings: number of statements of each held-out fact.
        heard: share of the facts that people of the corpus react to; the rest are held out for the statement sets.
        documents: number of documents for pre-training, or of conversations for fine-tuning; about 31 tokens each.
        noise: share of wrong reactions; at 0.5 they say nothing about truth, trust or prejudice.
    """

    seed: int = 0
    people: int = 64
    folks: int = 80
    topics: int = 2
    values: int = 6
    slurs: int = 48
    remarks: int = 120
    wordings: int = 3
    heard: float = 0.7
    documents: int = 100_000
    noise: float = 0.0

    def __post_init__(self) -> None:
        for name, least, most in (
            ("people", 8, 400),
            ("folks", 8, 400),
            ("topics", 1, 4),
            ("values", 2, 8),
            ("slurs", 4, 200),
            ("remarks", 4, 1000),
            ("wordings", 1, 3),
            ("documents", 1, 10**9),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                raise InputError(f"WorldConfig.{name} is {value}; give {least} to {most}")
        for name, low, high in (("heard", 0.1, 0.9), ("noise", 0.0, 0.5)):
            if not low <= getattr(self, name) <= high:
                raise InputError(f"WorldConfig.{name} is {getattr(self, name)}; give {low} to {high}")


def stream(config: WorldConfig, purpose: str) -> Random:
    """Returns random numbers for one purpose, the same in every process and independent of other purposes."""
    return Random(f"jtrace world {config.seed}: {purpose}")


def invented(rng: Random, count: int, taken: Iterable[str] = ()) -> tuple[str, ...]:
    """Invents different lower-case words of two syllables, none of them in `taken`."""
    words: dict[str, None] = {}
    avoided = set(taken)
    while len(words) < count:
        first, second = (rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(2))
        word = first + second + rng.choice(_CODAS)
        if word not in avoided:
            words[word] = None
    return tuple(words)
