"""Every fault planted in a clean set is found, alone and with its count; a clean set is left in peace."""

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jtrace.data.groups import groups_of
from jtrace.data.linter import LintWarning, Rule, as_text, held_out, lint, text_rules
from jtrace.data.loading import read_statements
from jtrace.data.registry import BUILTIN
from jtrace.data.statements import Statements

VOCABULARY = ["".join(word) for word in np.random.default_rng(0).choice(list("abcdefghijklmnoprstuvwyz"), (2000, 6))]
SEEDS = st.integers(0, 2**32 - 1)


def set_of(texts: list[str], labels, groups: list[str] | None = None) -> Statements:
    rows = tuple(range(2, len(texts) + 2))
    return Statements(
        tuple(texts), np.array(labels), tuple(groups) if groups else None, name="toy", source="data/toy.csv", rows=rows
    )


def clean(seed: int, count: int = 200) -> tuple[list[str], np.ndarray]:
    """Texts of random words, and balanced labels that have nothing to do with them."""
    random = np.random.default_rng(seed)
    texts = [" ".join(random.choice(VOCABULARY, random.integers(8, 14))).capitalize() + "." for _ in range(count)]
    return texts, random.permutation(np.arange(count) % 2)


def found(statements: Statements) -> dict[str, int]:
    """Count of each kind; findings of one kind are added up."""
    counts: dict[str, int] = {}
    for finding in lint(statements):
        counts[finding.kind] = counts.get(finding.kind, 0) + finding.count
    return counts


# Clean sets


@settings(deadline=None, max_examples=25)
@given(seed=SEEDS, count=st.integers(4, 300))
def test_a_clean_set_has_no_findings(seed, count):
    assert lint(set_of(*clean(seed, count))) == ()


@pytest.mark.parametrize(
    "texts",
    [
        ["Water is wet.", "Fire is cold.", "Ice is cold.", "Tea is dry."],
        ["水是湿的。", "火は冷たい。", "чай сухой", "برف سرد است"],
        ["Water is wet.", "Fire is cold.", "Ice is cold.", "tea" + " and more tea" * 20000],
        [
            "Q: Wet?\tA: Yes.",
            "Q: Hot?\tA: No.",
            "naïve «café», Ärger: 5 < 6 & 7 > 2; C:\\temp",
            "Señor…\nÀ vous — “là”.",
        ],
        ["می‌خواهم", "👩‍👩‍👧 at home", "!!!", "?"],
    ],
)
def test_small_sets_of_any_script_have_none_either(texts):
    assert lint(set_of(texts, [0, 1, 1, 0])) == ()


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.99, 1.0])
def test_a_split_without_two_parts_has_nothing_to_leak(fraction):
    assert lint(set_of(["Water is wet.", "Fire is cold."], [0, 1]), fraction) == ()


# Planted faults


@settings(deadline=None, max_examples=10)
@given(seed=SEEDS, copies=st.integers(1, 12))
def test_duplicates(seed, copies):
    texts, labels = clean(seed)
    texts[copies : 2 * copies], labels[copies : 2 * copies] = texts[:copies], labels[:copies]

    assert found(set_of(texts, labels)) == {"duplicates": copies}


@settings(deadline=None, max_examples=10)
@given(seed=SEEDS, copies=st.integers(1, 12))
def test_conflicting_labels_are_counted_by_text(seed, copies):
    texts, labels = clean(seed)
    for copy in (copies, 2 * copies):  # three rows of each text, of labels l, 1 − l and l
        texts[copy : copy + copies] = texts[:copies]
    labels[copies : 2 * copies], labels[2 * copies : 3 * copies] = 1 - labels[:copies], labels[:copies]

    assert found(set_of(texts, labels)) == {"duplicates": 2 * copies, "conflicting_labels": copies}


@pytest.mark.parametrize(
    "change",
    [
        str.upper,
        lambda text: text.replace(" ", "  ") + "!!",
        lambda text: text.replace(" ", ", "),
        lambda text: text.replace("a", "aa", 1) if "a" in text.split()[-1] else text[:-2] + "q.",
        lambda text: " ".join(["Twoother", "words", *text.split()[2:]]),
        lambda text: text + " Not so.",
    ],
)
@settings(deadline=None, max_examples=5)
@given(seed=SEEDS, count=st.integers(1, 8))
def test_near_twins_across_labels(change, seed, count):
    texts, labels = clean(seed)
    texts[count : 2 * count], labels[count : 2 * count] = map(change, texts[:count]), 1 - labels[:count]

    assert found(set_of(texts, labels)) == {"near_twins": 2 * count}


def test_near_twins_of_one_label_are_no_finding():
    texts, labels = clean(0)
    texts[1], labels[1] = texts[0].replace(texts[0].split()[3], "other"), labels[0]

    assert lint(set_of(texts, labels)) == ()


def test_texts_with_both_labels_are_not_near_twins_too():
    assert "near_twins" not in found(set_of(["Water is wet", "Water is wet", "WATER IS WET"], [0, 1, 1]))


@pytest.mark.parametrize(
    "debris",
    [
        "_x000D_",
        "&amp;",
        "&#8220;",
        "&#x27;",
        "\ufffd",
        "â€™",
        "Ã©",
        "ÎµÎ»Î»Î·Î½Î¹ÎºÎ¬",
        "ä½\xa0å¥½",
        "one line<br />another",
        "ItÃ¢â‚¬â„¢s",
        "Â\xa0",
        "ðŸ˜‚",
        "Ð¿Ñ€",
        "ï»¿",
        "\x00",
        "\x07",
        "\x9d",
        "\r",
        "\u200b",
        "\ufeff",
        "\u00ad",
        "\\n-",
        "\\u2019",
        "\\xe9",
    ],
)
def test_encoding_debris(debris):
    texts, labels = clean(1)
    for i in (3, 150):
        texts[i] = f"{texts[i][:20]}{debris} {texts[i][20:]}"

    assert found(set_of(texts, labels)) == {"encoding_debris": 2}


@pytest.mark.parametrize(
    "text", ["“IRMÔ e “AMANHÔ", "ELE DISSE AMANHÃ…", "« CAFÉ »", "naïve façade", "ΕΛΛΗΝΙΚΑ, 水是湿的", "5 < 3 <x>"]
)
def test_correct_text_is_no_debris(text):
    texts, labels = clean(1)
    texts[3] = f"{texts[3]} {text} {texts[3]}"

    assert "encoding_debris" not in found(set_of(texts, labels))


def test_each_sort_of_debris_is_a_finding_of_its_own():
    texts, labels = clean(1)
    texts[4] += " _x000D_ &amp; _x000D_"
    texts[9] += " _x000D_"

    assert [finding.count for finding in lint(set_of(texts, labels))] == [2, 1]


@pytest.mark.parametrize("space", [" ", "\t", "\n", "\xa0", "\u3000"])
def test_stray_white_space(space):
    texts, labels = clean(2)
    texts[0], texts[1], texts[2] = space + texts[0], texts[1] + space, space + texts[2] + space

    findings = lint(set_of(texts, labels))

    assert [(finding.kind, finding.count) for finding in findings] == [("stray_whitespace", 2)] * 2
    assert "2 rows beginning with white space (toy.csv, row 2); it changes the first token" in findings[0].message
    assert "2 rows ending with white space (toy.csv, row 3); it moves the token that is read" in findings[1].message


@pytest.mark.parametrize("rare", [0, 1])
def test_a_rare_label(rare):
    texts, labels = clean(3)
    labels[:] = 1 - rare
    labels[::10] = rare

    (finding,) = lint(set_of(texts, labels))

    assert (finding.kind, finding.count) == ("imbalance", 20)
    assert f"20 of 200 rows with label {rare}; compare accuracy with 90.0%" in finding.message


def test_a_set_sorted_by_label():
    texts, labels = clean(4)

    assert found(set_of(texts, np.sort(labels))) == {"shifted_labels": 40}


@settings(deadline=None, max_examples=10)
@given(seed=SEEDS, count=st.integers(1, 20))
def test_groups_that_the_published_split_parts(seed, count):
    texts, labels = clean(seed)
    groups = [str(i) for i in range(200)]
    groups[160 : 160 + count] = groups[:count]

    (finding,) = lint(set_of(texts, labels, groups))

    assert (finding.kind, finding.count) == ("straddling_groups", count)
    assert f"{count} of 40 test rows" in finding.message


def test_groups_that_it_does_not_part():
    texts, labels = clean(5)

    assert lint(set_of(texts, labels, [str(i // 2) if 100 <= i < 120 else f"own {i}" for i in range(200)])) == ()


def test_a_set_built_of_groups():
    texts, labels = clean(6)
    contexts = [" ".join(text.split()[:4]) for text in texts[:100]]
    texts = [f"{contexts[i // 2]}. {text}" for i, text in enumerate(texts)]

    (finding,) = lint(set_of(texts, labels))

    assert (finding.kind, finding.count) == ("related_rows", 100)
    assert "200 of 200 rows in 100 groups of 2 rows each" in finding.message
    assert "adjacent pairs: 100" in finding.message


# Rules


@pytest.mark.parametrize(
    ("name", "mark"),
    [
        ("length in characters", lambda text: text.replace(".", "m" * 60 + ".")),
        ("having an upper-case letter", lambda text: text.lower()),
        ("the share of upper-case letters", lambda text: text.replace(".", "m" * 60 + ".")),
        ("the last character", lambda text: text[:-1] + "!"),
        ("a bag of words", lambda text: " ".join([*text.split()[:3], "the", *text.split()[3:]])),
    ],
)
@pytest.mark.parametrize("marked", [0, 1])
def test_each_trivial_rule_is_found_whichever_label_it_marks(name, mark, marked):
    texts, labels = clean(7)
    texts = [mark(text) if label == marked else text for text, label in zip(texts, labels, strict=True)]

    rules = {finding.message.partition(" alone")[0]: finding for finding in lint(set_of(texts, labels))}

    assert {finding.kind for finding in rules.values()} == {"trivial_rule"}
    assert rules[name].count >= 190
    assert "% of held-out rows" in rules[name].message


def test_a_bag_of_words_cannot_win_by_twins():
    texts, labels = clean(8)
    doubled = set_of([*texts, *texts], np.tile(labels, 2), None)

    assert "trivial_rule" not in found(doubled)
    words = text_rules(doubled.texts)[-1]
    seen_before = held_out(words, doubled.labels, np.arange(400)) == doubled.labels
    assert seen_before.mean() > 0.85  # as it would without groups


def test_a_rule_is_fitted_on_other_groups_than_it_is_scored_on():
    labels, groups = np.arange(60) % 2, np.arange(60) // 3
    fitted: list[np.ndarray] = []

    def remember(labels: np.ndarray, train: np.ndarray) -> np.ndarray:
        fitted.append(train)
        return ~train

    guesses = held_out(Rule("scored", remember), labels, groups)

    assert guesses.all()  # every row is scored by a fit that has not seen it
    assert sum(~train for train in fitted).tolist() == [1] * 60
    assert not any(np.intersect1d(groups[train], groups[~train]).size for train in fitted)


def test_what_few_rows_suggest_is_not_called_a_rule():
    texts, labels = clean(9, 12)

    assert lint(set_of([text[:-1] + ".!"[label] for text, label in zip(texts, labels, strict=True)], labels)) == ()


@settings(deadline=None)
@given(st.data())
def test_a_threshold_is_the_best_there_is(data):
    lengths = data.draw(st.lists(st.integers(1, 8), min_size=1, max_size=12))
    labels = np.array(data.draw(st.lists(st.integers(0, 1), min_size=len(lengths), max_size=len(lengths))))
    rule = text_rules(["x" * length for length in lengths])[0]

    right = (rule.predict(labels, np.ones(len(lengths), bool)) == labels).sum()

    above = [np.array(lengths) > cut for cut in range(9)]
    assert right == max(max((up == labels).sum(), (up != labels).sum()) for up in above)


def test_naive_bayes_by_hand():
    rule = text_rules(["red red sky", "red sea", "green sea", "green Sea", "green sky", "Blue moon"])[-1]
    labels = np.array([1, 1, 0, 0, 0, 0])

    guesses = rule.predict(labels, np.array([True, True, True, False, False, False]))

    # Smoothed, red is in 3/4 of the texts of label 1 and 1/3 of the other, sky in 2/4 and 1/3, sea in 2/4 and 2/3,
    # green in 1/4 and 2/3; label 1 starts at odds of 2 to 1, and words never seen say nothing.
    # "Green sky", neither red nor sea: 2 · 3/8 · 3/8 · 3/2 · 3/2 < 1. Nothing known: 2 · 3/8 · 3/4 · 3/2 · 9/4 > 1.
    assert guesses.tolist() == [True, True, False, False, False, True]
    assert rule.predict(labels, np.arange(6) < 2).all()  # one label is all that they know


# Extremes


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(min_size=1, max_size=8).filter(str.strip), st.integers(0, 1)), max_size=20))
def test_any_texts_can_be_linted(rows):
    rows = [("Fire is cold.", 0), *rows, ("Ice is cold.", 1)]
    statements = set_of([text for text, _ in rows], [label for _, label in rows])

    findings = lint(statements)

    assert findings == lint(statements)
    assert all("\n" not in finding.message for finding in findings)


@pytest.mark.parametrize("run", [".", " ", "\t", "a", "&", "Â", "\\", "Q: ", "a. ", "_x00"])
def test_long_runs_take_linear_time(run):
    texts = [f"Water {run * 50_000}x wet", f"Q: {run * 50_000}x", "Fire is cold.", "Ice is cold."]
    start = time.process_time()

    lint(set_of(texts, [0, 1, 1, 0]))

    assert time.process_time() - start < 2


def test_identical_texts():
    counts = found(set_of(["Water is wet."] * 50, np.arange(50) % 2))

    assert counts == {"duplicates": 49, "conflicting_labels": 1, "related_rows": 1, "straddling_groups": 10}


def test_lint_changes_nothing():
    texts, labels = clean(10)
    statements = set_of([*texts, texts[0] + " _x000D_ "], [*labels, 0])
    fingerprint = statements.fingerprint

    lint(statements)

    fresh = Statements(**{field: getattr(statements, field) for field in statements.__dataclass_fields__})
    assert fresh.fingerprint == fingerprint


# What a person reads


def test_findings_name_rows_by_file_and_quote_nothing():
    texts, labels = clean(11)
    texts[5], labels[5] = texts[2], 1 - labels[2]

    duplicate, conflict = lint(set_of(texts, labels))

    assert duplicate.message.startswith("1 row repeating the text of an earlier row exactly (toy.csv, row 7 and row 4)")
    assert conflict.message.startswith("1 text occurring with both labels (toy.csv, row 7 and row 4)")
    assert not any(word in duplicate.message + conflict.message for word in texts[2].split())


def test_as_text_has_a_line_for_each_finding():
    findings = (LintWarning("duplicates", 2, "2 rows …"), LintWarning("imbalance", 3, "only 3 …"))

    assert as_text("toy", findings) == "toy:\n  duplicates: 2 rows …\n  imbalance: only 3 …"
    assert as_text("toy", ()) == "toy: nothing odd found"


# The authors' sets


@pytest.fixture(scope="module")
def authors(shared) -> dict[str, tuple[LintWarning, ...]]:
    names = ("truthfulqa", "toxigen", "confaide", "stereoset", "sst2")
    return {name: lint(read_statements(name, shared / "data")) for name in names}


def has(findings: tuple[LintWarning, ...], kind: str, count: int, phrase: str = "") -> bool:
    return any(finding.kind == kind and finding.count == count and phrase in finding.message for finding in findings)


@pytest.mark.real
@pytest.mark.slow
def test_truthfulqa_leaks_its_questions(authors):
    findings = authors["truthfulqa"]

    assert has(findings, "related_rows", 410, "2263 of 2263 rows in 410 groups of 2 to 6 rows")
    assert has(findings, "straddling_groups", 451, "451 of 453 test rows")
    assert not any(finding.kind in ("duplicates", "encoding_debris", "stray_whitespace") for finding in findings)


@pytest.mark.real
@pytest.mark.slow
def test_toxigen_has_duplicates_conflicts_and_debris(authors):
    findings = authors["toxigen"]

    assert has(findings, "duplicates", 76)
    assert has(findings, "conflicting_labels", 6)
    assert has(findings, "encoding_debris", 34, "_x000D_")
    assert has(findings, "stray_whitespace", 625, "ending")
    assert has(findings, "stray_whitespace", 158, "beginning")


@pytest.mark.real
@pytest.mark.slow
def test_confaide_has_duplicates_and_conflicts(authors):
    assert has(authors["confaide"], "duplicates", 77)
    assert has(authors["confaide"], "conflicting_labels", 3)


@pytest.mark.real
def test_stereoset_is_made_of_adjacent_pairs(authors):
    assert has(authors["stereoset"], "related_rows", 969, "adjacent pairs: 976")


@pytest.mark.real
def test_sst2_is_made_of_pairs_far_apart_that_capitals_give_away(authors):
    findings = authors["sst2"]

    assert has(findings, "related_rows", 1821, "3642 of 3642 rows in 1821 groups of 2 rows each")
    assert has(findings, "near_twins", 2 * (1821 - 14))
    assert has(findings, "conflicting_labels", 14)  # nothing was perturbed
    assert has(findings, "trivial_rule", 3642 - 14, "having an upper-case letter alone is right on 99.6%")
    assert has(findings, "trivial_rule", 3642 - 14, "99.5% of the published split's test rows")


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("truthfulqa", 0.66, 0.72), *((name, 0.76, 0.86) for name in ("toxigen", "confaide", "stereoset", "sst2"))],
)
def test_a_bag_of_words_scores_about_0_8_on_four_of_five(shared, authors, name, least, most):
    statements = read_statements(name, shared / "data")
    rule = text_rules(statements.texts)[-1]

    accuracy = (held_out(rule, statements.labels, groups_of(statements)) == statements.labels).mean()

    assert least < accuracy < most
    assert has(authors[name], "trivial_rule", round(accuracy * len(statements)), "a bag of words")


@pytest.mark.parametrize("token", ["</s>", "<s>", "<|endoftext|>", "<|im_start|>", "<unk>", "[SEP]", "<end_of_turn>"])
def test_special_tokens_within_texts_are_said(token):
    (finding,) = [one for one in lint(set_of([f"Water{token} is wet.", "Fire is cold."], [1, 0])) if one.count]
    assert finding.kind == "special_tokens"
    assert "1 row with what may be a special token, as `</s>` (toy.csv, row 2)" in finding.message
    assert "--special_tokens=text takes it as text" in finding.message


@pytest.mark.parametrize("text", ["a <b and c> d", "x </sub> y", "if a < s > b", "[sep] [1]", "<|>", "see <s1>"])
def test_other_brackets_are_no_special_tokens(text):
    assert "special_tokens" not in found(set_of([text, "Fire is cold."], [1, 0]))


@pytest.mark.parametrize(
    ("name", "info", "odd"),
    [("sst2", None, True), ("toxigen_small", None, True), ("mine", None, False), ("sst2", BUILTIN["sst2"], False)],
)
def test_a_file_named_like_a_built_in_set_is_said_to_be_another(name, info, odd):
    statements = replace(set_of(*clean(0)), name=name, info=info)
    assert found(statements) == ({"named_like_built_in": 200} if odd else {})
