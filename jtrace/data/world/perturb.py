"""Garbled spellings: typos, swapped letters, random capitals."""

from random import Random

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
# One letter in so many is garbled, but never fewer than two in a text.
LETTERS_PER_SLIP = 8


def garble(text: str, rng: Random) -> str:
    """The text with some letters mistyped, swapped with the next or capitalised; always different from it.

    Args:
        text: with a lower-case letter at least.
    """
    letters = [i for i, character in enumerate(text) if character.islower()]
    slips = max(2, len(letters) // LETTERS_PER_SLIP)
    garbled = text
    while garbled == text:
        characters = list(text)
        for i in rng.sample(letters, min(slips, len(letters))):
            _slip(characters, i, rng)
        garbled = "".join(characters)
    return garbled


def _slip(characters: list[str], i: int, rng: Random) -> None:
    kind = rng.randrange(3)
    if kind == 0:
        characters[i] = rng.choice(_LETTERS)
    elif kind == 1 and i + 1 < len(characters) and characters[i + 1].isalpha():
        characters[i], characters[i + 1] = characters[i + 1], characters[i]
    else:
        characters[i] = characters[i].upper()
