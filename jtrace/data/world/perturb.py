"""Garbled spellings: typos, swapped letters, random capitals."""

from random import Random

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
# One in this many letters is garbled, but at least two in a text.
LETTERS_PER_SLIP = 8


def garble(text: str, rng: Random) -> str:
    """Garbles a text: some letters are mistyped, swapped with the next or capitalised; the result always differs.

    Args:
        text: a text with at least one lower-case letter.
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
