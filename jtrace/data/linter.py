"""A linter of statement sets: twins, conflicts, debris, leaking splits, and rules too simple to need a model.

Its findings are warnings: nothing is changed, printed or raised. Axes: N rows.
"""

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.naive_bayes import BernoulliNB

from jtrace.data.groups import EDITED_WORDS, edit_buckets, groups_of, numbered, words_of
from jtrace.data.registry import BUILTIN
from jtrace.data.statements import Statements
from jtrace.data.text_classifier import WORD

# A rule is reported where it beats the larger class by a margin that would show in a probe curve, and by more than
# counting noise: with five rules, one in 6,000 clean sets gets a wrong warning.
RULE_MARGIN, RULE_SIGMAS = 0.05, 4.0
# If label shares of the two parts of a split differ by more than this, and beyond noise, the rows are not shuffled.
SHIFT_MARGIN = 0.1
# With a smaller share of the rarer label, accuracy says little.
RARE_LABEL = 1 / 3
# With at least this share of related rows, a set is built of groups; with less, some rows are alike by chance.
BUILT_OF_GROUPS = 0.5
FOLDS = 5

# The bytes after the first of a UTF-8 sequence, when read as Windows-1252 or Latin-1.
_TAIL = "[\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]"
# Portuguese words in capitals end in Ã before a quote or a dash; other scripts show by two such letters in a row.
_MOJIBAKE = (
    f"(?<![A-ZÀ-Þ])[ÂÃ]{_TAIL}|[ÂÃ](?![”’“‘…–—»«]){_TAIL}|â{_TAIL}{{2}}|ð[Ÿ\x9f]{_TAIL}|ï»¿"
    f"|(?:[Ä-ß]{_TAIL}){{2}}|(?:[à-ï]{_TAIL}{{2}}){{2}}"
)
_DEBRIS = (
    ("an escape of a spreadsheet, as `_x000D_`", re.compile(r"_x[0-9A-Fa-f]{4}_")),
    ("a written-out escape, as `\\n`", re.compile(r"\\(?:[nrt](?![a-z])|u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2})")),
    ("an HTML entity, as `&amp;`", re.compile(r"&(?:#\d+|#[xX][0-9a-fA-F]+|[a-zA-Z][a-zA-Z0-9]+);")),
    ("UTF-8 read as another encoding, as `Ã©` for `é`", re.compile(_MOJIBAKE)),
    ("an HTML tag, as `<br />`", re.compile(r"</?(?:br|p|i|b|em|strong|div|span|a|u)(?:\s[^<>]*)?/?>", re.IGNORECASE)),
    ("the replacement character U+FFFD", re.compile("\ufffd")),
    ("a control character", re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")),
    ("a carriage return", re.compile("\r")),
    ("an invisible character, as a zero-width space", re.compile("[\u200b\u2060\ufeff\u00ad]")),
)
# Special tokens as tokenisers of known models write them.
_SPECIAL = re.compile(
    r"</?s>|<\|[^<>|\s]{1,40}\|>|<(?:unk|pad|mask|bos|eos|cls|sep|(?:start|end)_of_turn)>"
    r"|\[(?:CLS|SEP|PAD|MASK|UNK|/?INST)\]"
)


@dataclass(frozen=True)
class LintWarning:
    """One finding in a set."""

    kind: str  # stable name, such as `conflicting_labels`
    count: int  # number of rows, or of texts or groups where the message says so
    message: str  # one line: what, how many, an example, and the consequence


@dataclass(frozen=True, eq=False)
class Rule:
    """A rule that guesses labels from the bare texts.

    Attributes:
        name: name of the rule, such as "length in characters".
        predict: function of labels [N] and a mask of the rows to fit on, bool [N]; guesses all rows, bool [N].
    """

    name: str
    predict: Callable[[np.ndarray, np.ndarray], np.ndarray]


def lint(statements: Statements, train_fraction: float = 0.8) -> tuple[LintWarning, ...]:
    """Finds oddities of a set.

    Args:
        train_fraction: leading share of the rows that trains in the published split.
    """
    groups = groups_of(statements)
    tests = np.arange(len(statements)) >= int(train_fraction * len(statements))
    return (
        *_repeats(statements),
        *_near_twins(statements),
        *_debris(statements),
        *_named_like_built_in(statements),
        *_special_tokens(statements),
        *_stray_whitespace(statements),
        *_imbalance(statements.labels, groups, tests),
        *_grouping(statements, groups, tests),
        *_trivial_rules(statements, groups, tests),
    )


def as_text(name: str, findings: Sequence[LintWarning]) -> str:
    """Writes findings as a few lines of text, without a final line end; no statement is quoted."""
    if not findings:
        return f"{name}: nothing odd found"
    return "\n".join([f"{name}:", *(f"  {finding.kind}: {finding.message}" for finding in findings)])


def _repeats(statements: Statements) -> Iterator[LintWarning]:
    """Finds rows with exactly the same text."""
    first: dict[str, int] = {}
    repeats = [(i, first[text]) for i, text in enumerate(statements.texts) if first.setdefault(text, i) != i]
    if repeats:
        yield LintWarning(
            "duplicates",
            len(repeats),
            f"{_many(len(repeats), 'row')} repeating the text of an earlier row exactly "
            f"({_pair(statements, *repeats[0])}); they weigh more than others, and leak where a split parts them",
        )
    conflicts = {
        statements.texts[i]: (i, j) for i, j in reversed(repeats) if statements.labels[i] != statements.labels[j]
    }
    if conflicts:
        example = min(conflicts.values())
        yield LintWarning(
            "conflicting_labels",
            len(conflicts),
            f"{_many(len(conflicts), 'text')} occurring with both labels ({_pair(statements, *example)}); "
            "no probe can be right on both",
        )


def _near_twins(statements: Statements) -> Iterator[LintWarning]:
    """Finds rows of opposite labels whose texts hardly differ; texts that occur with both labels are left out."""
    texts, seen = statements.texts, set(zip(statements.texts, statements.labels.tolist(), strict=True))
    rows = [i for i, label in enumerate(statements.labels.tolist()) if (texts[i], 1 - label) not in seen]
    if not rows:
        return
    labels = statements.labels[rows]
    owner, bucket = edit_buckets(words_of([texts[i] for i in rows]))
    ones, members = np.bincount(bucket, labels[owner]), np.bincount(bucket)
    opposed = ((ones > 0) & (ones < members))[bucket]
    if opposed.any():
        alike = owner[bucket == bucket[opposed][0]]
        one, other = alike[0], alike[labels[alike] != labels[alike[0]]][0]
        count = len(np.unique(owner[opposed]))
        yield LintWarning(
            "near_twins",
            count,
            f"{_many(count, 'row')} differing from a row of the other label only in case, punctuation, spacing or at "
            f"most {EDITED_WORDS} neighbouring words ({_pair(statements, rows[one], rows[other])}); keep twins in one "
            "part of a split",
        )


def _debris(statements: Statements) -> Iterator[LintWarning]:
    """Finds traces of files read in the wrong encoding or escaped once too often; one finding for each kind."""
    for what, pattern in _DEBRIS:
        rows = [i for i, text in enumerate(statements.texts) if pattern.search(text)]
        if rows:
            message = f"{_many(len(rows), 'row')} with {what} ({statements.where(rows[0])}); a model reads it as text"
            yield LintWarning("encoding_debris", len(rows), message)


def _named_like_built_in(statements: Statements) -> Iterator[LintWarning]:
    """Finds a file that is named like a built-in set, or a part of one, and holds other rows."""
    name = statements.name.partition("_")[0]
    if name in BUILTIN and statements.info is None:
        yield LintWarning(
            "named_like_built_in",
            len(statements),
            f"named like the built-in set {name} and holding other rows: taken as a set of your own, whose labels mean "
            "what you know of them; no dimension of trustworthiness is told",
        )


def _special_tokens(statements: Statements) -> Iterator[LintWarning]:
    """Finds special tokens that are written out in texts."""
    rows = [i for i, text in enumerate(statements.texts) if _SPECIAL.search(text)]
    if rows:
        message = (
            f"{_many(len(rows), 'row')} with what may be a special token, as `</s>` ({statements.where(rows[0])}); a "
            "tokeniser that knows it reads one token, --special_tokens=text takes it as text"
        )
        yield LintWarning("special_tokens", len(rows), message)


def _stray_whitespace(statements: Statements) -> Iterator[LintWarning]:
    """Finds white space around texts; one finding for each side."""
    for side, stripped in (("beginning", str.lstrip), ("ending", str.rstrip)):
        rows = [i for i, text in enumerate(statements.texts) if stripped(text) != text]
        if rows:
            follows = "it moves the token that is read" if side == "ending" else "it changes the first token"
            message = f"{_many(len(rows), 'row')} {side} with white space ({statements.where(rows[0])}); {follows}"
            yield LintWarning("stray_whitespace", len(rows), message)


def _imbalance(labels: np.ndarray, groups: np.ndarray, tests: np.ndarray) -> Iterator[LintWarning]:
    """Finds labels that are rare, or uneven between the parts of the published split."""
    ones, rare = labels.mean(), min(labels.sum(), (1 - labels).sum())
    if rare < RARE_LABEL * len(labels):
        which = int(ones < 0.5)
        message = (
            f"only {rare} of {len(labels)} rows with label {which}; compare accuracy with {max(ones, 1 - ones):.1%}"
        )
        yield LintWarning("imbalance", int(rare), message)
    if tests.any() and not tests.all():
        train_share, test_share = labels[~tests].mean(), labels[tests].mean()
        counts = len(np.unique(groups[~tests])), len(np.unique(groups[tests]))
        noise = np.sqrt(ones * (1 - ones) * (1 / counts[0] + 1 / counts[1]))
        if abs(train_share - test_share) > max(SHIFT_MARGIN, RULE_SIGMAS * noise):
            yield LintWarning(
                "shifted_labels",
                int(tests.sum()),
                f"label 1 has {train_share:.1%} of the training rows and {test_share:.1%} of the {tests.sum()} test "
                "rows of the published split; shuffle the file",
            )


def _grouping(statements: Statements, groups: np.ndarray, tests: np.ndarray) -> Iterator[LintWarning]:
    """Finds rows that belong together, and those that the published split parts."""
    sizes = np.bincount(groups)
    related = sizes[groups] > 1
    if related.sum() >= BUILT_OF_GROUPS * len(groups) and related.any():
        several = sizes[sizes > 1]
        smallest, largest = several.min(), several.max()
        each = f"{smallest}" if smallest == largest else f"{smallest} to {largest}"
        yield LintWarning(
            "related_rows",
            len(several),
            f"{related.sum()} of {len(groups)} rows in {_many(len(several), 'group')} of {each} rows each (one "
            f"question, one context or twins), adjacent pairs: {_adjacent_pairs(groups)}; rows are not independent",
        )
    leaking = tests & np.isin(groups, groups[~tests])
    if leaking.any():
        test, parted = np.flatnonzero(leaking)[0], len(np.unique(groups[leaking]))
        train = np.flatnonzero(~tests & (groups == groups[test]))[0]
        yield LintWarning(
            "straddling_groups",
            int(leaking.sum()),
            f"{leaking.sum()} of {tests.sum()} test rows of the published split with a relative that trains, in "
            f"{_many(parted, 'group')} ({_pair(statements, test, train)}); scores may be remembered, split by groups",
        )


def _adjacent_pairs(groups: np.ndarray) -> int:
    """Counts disjoint pairs of neighbouring rows of one group."""
    runs = [len(list(run)) for _, run in itertools.groupby(groups.tolist())]
    return sum(length // 2 for length in runs)


def _trivial_rules(statements: Statements, groups: np.ndarray, tests: np.ndarray) -> Iterator[LintWarning]:
    """Finds rules that guess the labels of unseen groups from the bare texts."""
    labels = statements.labels
    share = max(labels.mean(), 1 - labels.mean())
    margin = max(RULE_MARGIN, RULE_SIGMAS * np.sqrt(share * (1 - share) / (groups.max() + 1)))
    if share + margin >= 1:  # too few rows to show anything
        return
    for rule in text_rules(statements.texts):
        right = held_out(rule, labels, groups) == labels
        if right.mean() > share + margin:
            on_tests = f", {right[tests].mean():.1%} of the published split's test rows" if tests.any() else ""
            yield LintWarning(
                "trivial_rule",
                int(right.sum()),
                f"{rule.name} alone is right on {right.mean():.1%} of held-out rows{on_tests} (the larger class has "
                f"{share:.1%}); hold a probe against that",
            )


def held_out(rule: Rule, labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Returns a rule's guess for each row, fitted on the other folds without parting a group: bool [N]."""
    count = groups.max() + 1
    fold = np.random.default_rng(0).permutation(count)[groups] % min(FOLDS, count)
    guesses = np.zeros(len(labels), bool)
    for k in range(fold.max() + 1):
        guesses[fold == k] = rule.predict(labels, fold != k)[fold == k]
    return guesses


def text_rules(texts: Sequence[str]) -> tuple[Rule, ...]:
    """Returns rules that guess labels without a model: by length, capitals, last character, words in any order.

    The bag of words is naive Bayes over the words that a text has, upper and lower case distinguished.
    """
    lengths = np.array([len(text) for text in texts])
    capitals = np.array([sum(map(str.isupper, text)) for text in texts])
    last = numbered(text[-1:] for text in texts)
    words = CountVectorizer(token_pattern=WORD, lowercase=False, binary=True).fit_transform(texts)
    return (
        Rule("length in characters", lambda labels, train: _by_threshold(lengths, labels, train)),
        Rule("having an upper-case letter", lambda labels, train: _by_value(capitals > 0, labels, train)),
        Rule("the share of upper-case letters", lambda labels, train: _by_threshold(capitals / lengths, labels, train)),
        Rule("the last character", lambda labels, train: _by_value(last, labels, train)),
        Rule("a bag of words", lambda labels, train: _by_words(words, labels, train)),
    )


def _by_threshold(values: np.ndarray, labels: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Guesses one label above and the other below the threshold that is right most often."""
    order = np.argsort(values[train], kind="stable")
    ordered, ones = values[train][order], np.concatenate([[0], np.cumsum(labels[train][order], dtype=np.int64)])
    below = np.arange(len(order) + 1)
    right = (below - ones) + (ones[-1] - ones)  # with label 1 above
    cuts = np.concatenate([[True], ordered[1:] > ordered[:-1], [True]])
    up, down = (int(np.argmax(np.where(cuts, score, -1))) for score in (right, len(order) - right))
    turned = len(order) - right[down] > right[up]
    cut = down if turned else up
    above = values > (ordered[cut - 1] + ordered[cut]) / 2 if 0 < cut < len(order) else np.full(len(values), cut == 0)
    return above ^ turned


def _by_value(values: np.ndarray, labels: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Guesses the label most often seen with the value; for unseen values, the one most often seen."""
    votes = 2.0 * labels - 1
    balance = np.bincount(values[train], votes[train], minlength=values.max() + 1)[values.astype(int)]
    return np.where(balance == 0, votes[train].sum() > 0, balance > 0)


def _by_words(words: csr_matrix, labels: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Guesses by Bernoulli naive Bayes over the words of the rows to fit on; `words` is 1 where a row has a word."""
    known = words[:, np.unique(words[train].indices)]
    return BernoulliNB().fit(known[train], labels[train]).predict(known) == 1


def _many(count: int, what: str) -> str:
    return f"{count} {what}" + "s" * (count != 1)


def _pair(statements: Statements, i: int, j: int) -> str:
    """Writes the places of two rows, as `mine.csv, row 17 and row 3`."""
    return f"{statements.where(i)} and row {statements.rows[j]}"
