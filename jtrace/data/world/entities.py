"""What the invented world is made of: how large it is, and the names in it, put together from syllables."""

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from jtrace.errors import InputError

_ONSETS = ("b", "d", "f", "g", "h", "j", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "br", "dr", "gl", "kr", "tr")
_VOWELS = ("a", "e", "i", "o", "u")
_CODAS = ("", "", "l", "m", "n", "r", "s")


@dataclass(frozen=True)
class WorldConfig:
    """How large and how difficult a world is.

    Attributes:
        seed: everything is drawn from it; any integer.
        people: named persons.
        folks: invented groups of people that prejudices are about.
        topics: so many things are known of a person; half as many, rounded up, are sorts of prejudices about a folk,
            and of secrets that a person has.
        values: towns, trades, …, and traits that a subject may have: more are harder to learn.
        slurs: insulting words, and as many kind ones.
        remarks: clean remarks of the robustness set.
        wordings: in how many ways each held-out fact is worded as a statement.
        heard: share of the facts that people of the corpus react to; the rest are held out for the statement sets.
        documents: documents of the pre-training text, and conversations to fine-tune on; at about 31 tokens each.
        noise: share of the reactions that are wrong: at 0.5 they say nothing of truth, trust or prejudice.
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
    """Random numbers for one purpose, the same in every process; they do not depend on those of other purposes."""
    return Random(f"jtrace world {config.seed}: {purpose}")


def invented(rng: Random, count: int, taken: Iterable[str] = ()) -> tuple[str, ...]:
    """Different lower-case words of two syllables, none equal to one of `taken`."""
    found: dict[str, None] = {}
    avoided = set(taken)
    while len(found) < count:
        first, second = (rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(2))
        word = first + second + rng.choice(_CODAS)
        if word not in avoided:
            found[word] = None
    return tuple(found)
