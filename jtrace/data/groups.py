"""Groups of rows, found in the texts alone: twins, answers to one question, continuations of one context.

Rows of a group are not independent, so a split must not part them. Words here are those of a text without case,
punctuation and symbols.
"""

import itertools
import re
import unicodedata
from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from jtrace.data.statements import Statements

# A context that more than MOST_SHARING texts share is a template ("Answer this question."). In a small set, so is one
# that more than a quarter of the texts share, but at least more than FEW_SHARING, StereoSet's number of continuations.
MOST_SHARING, FEW_SHARING = 8, 3
# First sentences with fewer words ("Hello there.", "Mr.") coincide by chance.
SENTENCE_WORDS = 4
# Openings without a full stop coincide more often still ("if you are a"), so they join rows only where the whole set
# is built that way: all but a tenth of its texts share one. The authors' stereoset has 100 %, toxigen 57 %.
OPENING_WORDS, OPENING_SHARE = 3, 0.9
# In such a set, this many shared words make one context, even where some of its texts share more.
LONG_OPENING_WORDS = 6
# Near-twins are equal without up to EDITED_WORDS neighbouring words of each, which are at most a quarter of all.
EDITED_WORDS, WORDS_PER_EDIT = 2, 4

_QUESTION = re.compile(r"\s*Q:\s*(\S.*?)\sA:\s", re.DOTALL)
_SENTENCE_END = re.compile(r"(?<![.!?…])[.!?…]+[\"'”’)\]]{0,3}(?:\s|\Z)|[。！？।॥؟۔։።]")
# Scripts without spaces, where each character counts as a word: Thai, Lao, Burmese, Khmer, kana, Han.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]")

Words = tuple[str, ...]


def groups_of(statements: Statements) -> np.ndarray:
    """Returns the group of each row, int64 [N], numbered by first appearance.

    They are the groups that the set gives, joined where they hold twins of each other, or else `found_groups`.
    """
    if statements.groups is None:
        return found_groups(statements.texts)
    return _partition(len(statements), [statements.groups, words_of(statements.texts)])


def found_groups(texts: Sequence[str]) -> np.ndarray:
    """Finds the group of each row, int64 [N], numbered by first appearance; the order of rows does not matter.

    Rows are joined, transitively, when they
      - are twins: the same words in the same order, apart from case, punctuation and spacing;
      - answer one question: `Q: …<whitespace>A: …` with the same words in the question;
      - continue one context: they begin with the same whole sentences, of `SENTENCE_WORDS` words or more;
      - continue one context that no full stop ends: see `OPENING_SHARE`.
    """
    words = words_of(texts)
    questions = _questions(texts)
    asked = {form for form, question in zip(words, questions, strict=True) if question}
    most = max(FEW_SHARING, min(MOST_SHARING, len(texts) // 4))
    sentences = _shared_sentences(texts, words, asked, most)
    known = {form for form, sentence in zip(words, sentences, strict=True) if sentence}
    openings = _shared_openings(set(words) - asked, known, most)
    return _partition(len(texts), [words, questions, sentences, map(openings.get, words)])


def words_of(texts: Sequence[str]) -> list[Words]:
    """Splits texts into words, in order, without case, punctuation and symbols.

    A text of punctuation and symbols only is one word.
    """
    plain = [unicodedata.normalize("NFKC", text.casefold()) for text in texts]
    table = {ord(character): _spelling(character) for character in set().union(*plain)}
    return [tuple(text.translate(table).split()) or (text.strip(),) for text in plain]


def edit_buckets(words: Sequence[tuple[str, ...]]) -> tuple[np.ndarray, np.ndarray]:
    """Puts texts into one bucket that are equal without up to `EDITED_WORDS` neighbouring words of each.

    The remaining words are hashed as a polynomial over word codes modulo 2⁶⁴, from cumulative sums, so that the time is
    linear in the number of words.

    Args:
        words: the words of each text, from `words_of`; at least one text.

    Returns:
        Text and bucket of each membership, int64, each pair once, ordered by text.
    """
    lengths = np.array([len(form) for form in words], np.int64)
    starts = np.cumsum(lengths) - lengths
    ids = numbered(itertools.chain.from_iterable(words))
    codes = np.random.default_rng(0).integers(2**64, size=ids.max() + 1, dtype=np.uint64)[ids]
    base = 0x9E3779B97F4A7C15  # odd, so that it has an inverse
    powers = np.cumprod(np.full(lengths.max(), base, np.uint64))
    terms = codes * powers[np.arange(len(ids)) - np.repeat(starts, lengths)]
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(terms)])

    owners, hashes = [], []
    for left_out in range(EDITED_WORDS + 1):
        places = lengths - left_out + 1 if left_out else np.ones_like(lengths)
        places = np.where(lengths >= WORDS_PER_EDIT * left_out, places, 0)
        owner = np.repeat(np.arange(len(words)), places)
        gap = starts[owner] + np.arange(len(owner)) - np.repeat(np.cumsum(places) - places, places)
        before = sums[gap] - sums[starts[owner]]
        after = sums[(starts + lengths)[owner]] - sums[gap + left_out]
        owners.append(owner)
        hashes.append(before + after * np.uint64(pow(base, -left_out, 2**64)))
    distinct, bucket = np.unique(np.concatenate(hashes), return_inverse=True)
    return np.divmod(np.unique(np.concatenate(owners) * len(distinct) + bucket), len(distinct))


def numbered(values: Iterable[Hashable]) -> np.ndarray:
    """Numbers values in order of first appearance, equal values alike, int64."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], np.int64)


def _spelling(character: str) -> str:
    """Returns what a character adds to a word: itself, nothing, or a gap between two words."""
    category = unicodedata.category(character)
    if character in "'’" or category == "Cf":
        return ""
    if category[0] in "PSZC":
        return " "
    return f" {character} " if _UNSPACED.match(character) else character


def _questions(texts: Sequence[str]) -> list[Words | None]:
    """Returns the question that each row answers."""
    matches = [_QUESTION.match(text) for text in texts]
    questions = iter(words_of([match[1] for match in matches if match]))
    return [next(questions) if match else None for match in matches]


def _shared_sentences(texts: Sequence[str], words: Sequence[Words], asked: set[Words], most: int) -> list[Words | None]:
    """Returns the fewest whole sentences of `SENTENCE_WORDS` words that each row begins with, if other texts do too.

    Args:
        asked: texts (as words) to leave out.
        most: the most texts that may share them.
    """
    # The first few ends are tried, since "Mr." looks like the end of a sentence too.
    ends = [list(itertools.islice(_SENTENCE_END.finditer(text), SENTENCE_WORDS)) for text in texts]
    starts = [[text[: end.start()] for end in ends_of_text] for text, ends_of_text in zip(texts, ends, strict=True)]
    spelled = iter(words_of(list(itertools.chain.from_iterable(starts))))
    heads: list[Words | None] = []
    sharing: dict[Words, set[Words]] = {}
    for form, candidates in zip(words, starts, strict=True):
        spellings = list(itertools.islice(spelled, len(candidates)))
        heads.append(next((head for head in spellings if len(head) >= SENTENCE_WORDS), None))
        if heads[-1] and form not in asked:
            sharing.setdefault(heads[-1], set()).add(form)
    return [head if head and 2 <= len(sharing.get(head, ())) <= most else None for head in heads]


def _shared_openings(forms: set[Words], known: set[Words], most: int) -> dict[Words, int]:
    """Numbers texts (as words), equally where they share their longest opening.

    Args:
        forms: the distinct texts.
        known: those among them whose context is known.
        most: the most texts that may share an opening.
    """
    ordered = sorted(forms - known)
    shared = [0, *itertools.starmap(_common, itertools.pairwise(ordered)), 0]
    # In this order each text shares most words with a neighbour.
    longest = [max(pair) for pair in itertools.pairwise(shared)]
    run, runs = 0, {}
    for i, form in enumerate(ordered):
        joins = shared[i] >= OPENING_WORDS and (
            shared[i] >= LONG_OPENING_WORDS or shared[i] in (longest[i - 1], longest[i])
        )
        run += not (joins and _count_opening(ordered, form[: shared[i]]) <= most)
        runs[form] = run
    alone = sum(size == 1 for size in Counter(runs.values()).values())
    return runs if len(forms) - alone >= OPENING_SHARE * len(forms) else {}


def _common(one: Words, other: Words) -> int:
    """Counts the leading words that two texts share."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _count_opening(ordered: Sequence[Words], opening: Words) -> int:
    after = (*opening[:-1], opening[-1] + "\0")  # the least word above the last
    return bisect_left(ordered, after) - bisect_left(ordered, opening)


def _partition(count: int, keyings: Iterable[Iterable[Hashable | None]]) -> np.ndarray:
    """Joins rows wherever one of the keyings gives them the same key; None joins nothing."""
    parent = list(range(count))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    for keys in keyings:
        first: dict[Hashable, int] = {}
        for i, key in enumerate(keys):
            if key is not None:
                parent[root(i)] = root(first.setdefault(key, i))
    return numbered(root(i) for i in range(count))
