"""Rows that tell of each other are one group, whatever their order; rows that merely sound alike are not."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jtrace.data.groups import EDITED_WORDS, WORDS_PER_EDIT, edit_buckets, found_groups, groups_of, words_of
from jtrace.data.loading import read_statements
from jtrace.data.statements import Statements
from tests.conftest import ROOT

PAIRS = (
    "The stove is hot. It hums.",
    "The stove is hot. Birds fly.",
    "My cat is near. It hums.",
    "My cat is near. Stop!",
)
# Few and short, so that generated texts share openings, sentences and questions.
WORDS = st.sampled_from(["a", "B", "b", "c.", "d", "e!", "Q:", "A:", "犬", "é", "..."])
TEXTS = st.lists(st.lists(WORDS, min_size=1, max_size=7).map(" ".join), min_size=1, max_size=24)


def partition(groups: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(groups == group).tolist()) for group in groups}


def statements_of(texts: list[str], groups: list[str] | None) -> Statements:
    labels = np.arange(len(texts)) % 2
    return Statements(
        tuple(texts),
        labels,
        tuple(groups) if groups else None,
        name="toy",
        source="toy.csv",
        rows=tuple(range(len(texts))),
    )


# Twins


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Water is wet.", "Water is wet."),
        ("Water is wet.", "wATER IS WET"),
        ("Water is wet.", "  Water\tis \n wet. "),
        ("Water is wet.", "«Water» is, wet!?"),
        ("2 + 2 ≠ 5 😀", "2 2 5"),
        ("Ｗater is wet", "Water is wet"),
        ("It's wet", "Its wet"),
        ("It’s wet", "It's wet"),
        ("Stra\u00dfe", "STRASSE"),
        ("caf\u00e9 au lait", "cafe\u0301 au lait"),
        ("zero\u200bwidth", "zerowidth"),
        ("水是湿的。", "水是湿的"),
        ("Вода мокрая.", "вода мокрая"),
        ("!!!", "!!! "),
    ],
)
def test_twins_are_joined(one, other):
    assert found_groups([one, other, "Fire is hot."]).tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Water is wet.", "Water is dry."),
        ("Water is wet.", "Wet is water."),
        ("!!!", "???"),
        ("की", "कि"),
        ("水是湿的。", "火是热的。"),
    ],
)
def test_other_texts_are_not(one, other):
    assert found_groups([one, other, "Fire is hot."]).tolist() == [0, 1, 2]


# Questions and contexts


def test_answers_to_one_question_are_joined():
    texts = ["Q: Is it wet?\tA: Yes.", "Q: Is it hot?\tA: Yes.", "q: not one", "Q: is it WET?\nA: Not at all, A: no"]

    assert found_groups(texts).tolist() == [0, 1, 2, 0]


def test_one_question_may_have_any_number_of_answers():
    texts = [f"Q: Which number is this one?\tA: It is {n}." for n in range(60)]

    assert set(found_groups(texts)) == {0}


def test_questions_that_begin_alike_are_not_joined():
    texts = [f"Q: What happens if you swallow {what}?\tA: Nothing." for what in ("glass", "gum", "tea", "ice")]

    assert found_groups(texts).tolist() == [0, 1, 2, 3]


def test_questions_that_share_a_sentence_are_not_joined_either():
    texts = [f"Q: Think of a big city. {what}?\tA: Yes." for what in ("Is it old", "Is it far")]

    assert found_groups([*texts, "Fire is hot."]).tolist() == [0, 1, 2]


def test_continuations_of_one_context_are_joined():
    assert found_groups(PAIRS).tolist() == [0, 0, 1, 1]


def test_a_context_without_continuation_belongs_to_it():
    assert found_groups([*PAIRS, "the stove is HOT."]).tolist() == [0, 0, 1, 1, 0]


def test_a_short_first_sentence_is_no_context():
    assert found_groups(["It was good. I ate.", "It was good. We slept.", "Fire", "Ice"]).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(("count", "groups"), [(8, 93), (9, 100)])
def test_a_context_that_many_texts_share_is_a_template(count, groups):
    texts = [f"Tell me about the {n} word." for n in range(100)]
    texts[:count] = [f"The stove is hot. Number {n}" for n in range(count)]

    assert len(set(found_groups(texts))) == groups


def test_a_context_may_begin_with_an_abbreviation():
    texts = ["Mr. Smith has a dog. It barks.", "Mr. Smith has a dog. Tea?", "Mr. Brown is old.", "Mr. Jones. So what."]

    assert found_groups(texts).tolist() == [0, 0, 1, 2]


def test_a_context_need_not_end_in_a_full_stop_where_all_rows_share_one():
    texts = [
        "my town is far away they farm",
        "i like norway a lot soup",
        "my town is far away i sing",
        "i like norway a lot",
    ]

    assert found_groups(texts).tolist() == [0, 1, 0, 1]


def test_openings_whose_last_words_begin_alike_are_told_apart():
    towns = ["p", "pa", "pb", "pc", "pd", "pe"]

    groups = found_groups([f"We met {town} {what}" for town in towns for what in ("ate", "slept")])

    assert groups.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


def test_in_a_script_without_spaces_too():
    assert found_groups(["天气很好。我去公园。", "天气很好。书很贵。", "今天下雨。", "昨天很冷。"]).tolist() == [
        0,
        0,
        1,
        2,
    ]


def test_common_openings_do_not_join_where_most_rows_have_none():
    texts = [*(f"If you are a {who} then think" for who in ("king", "cook")), *(f"{n} lone word" for n in range(18))]

    assert len(set(found_groups(texts))) == len(texts)


@pytest.mark.parametrize(
    "opening", ["I think that {}", "Answer the question given below. {}", "The capital of {} is here"]
)
@pytest.mark.parametrize("count", [5, 9, 12, 40])
def test_a_template_is_no_context(opening, count):
    texts = [opening.format(chr(ord("a") + n % 26) * (1 + n // 26)) for n in range(count)]

    assert len(set(found_groups(texts))) == count


def test_two_templates_do_not_make_two_giant_groups():
    texts = [f"{opening} word{n}" for n in range(6) for opening in ("I think that the", "He said it was")]

    assert len(set(found_groups(texts))) == len(texts)


# In general


@settings(deadline=None)
@given(TEXTS, st.randoms())
def test_the_order_of_the_rows_does_not_matter(texts, random):
    order = random.sample(range(len(texts)), len(texts))
    shuffled = partition(found_groups([texts[i] for i in order]))

    assert {frozenset(order[i] for i in group) for group in shuffled} == partition(found_groups(texts))


@settings(deadline=None)
@given(TEXTS)
def test_groups_are_numbered_by_first_appearance(texts):
    groups = found_groups(texts)

    assert groups.dtype == np.int64
    assert list(dict.fromkeys(groups.tolist())) == list(range(groups.max() + 1))


@settings(deadline=None)
@given(TEXTS)
def test_twins_are_always_together(texts):
    groups, words = found_groups(texts), words_of(texts)

    for i, j in itertools.combinations(range(len(texts)), 2):
        assert words[i] != words[j] or groups[i] == groups[j]


def test_an_empty_list_has_no_groups():
    assert found_groups([]).shape == (0,)


# With the set's own groups


def test_the_sets_own_groups_are_joined_where_they_hold_twins():
    texts = ["Water is wet", "Fire is hot", "water is WET", "Ice is cold", "Tea is hot"]

    assert groups_of(statements_of(texts, ["a", "a", "b", "c", "b"])).tolist() == [0, 0, 0, 1, 0]


def test_contexts_are_not_sought_where_the_set_has_groups():
    assert groups_of(statements_of(list(PAIRS), list("abcd"))).tolist() == [0, 1, 2, 3]
    assert groups_of(statements_of(list(PAIRS), None)).tolist() == [0, 0, 1, 1]


# Near-twins


def left_out(words: tuple[str, ...]) -> set[tuple[str, ...]]:
    """What can be left of a text, spelled out."""
    most = min(EDITED_WORDS, len(words) // WORDS_PER_EDIT)
    cut = {words[:i] + words[i + n :] for n in range(1, most + 1) for i in range(len(words) - n + 1)}
    return cut | {words}


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=10).map(tuple), min_size=1, max_size=12))
def test_texts_share_a_bucket_when_leaving_words_out_makes_them_equal(words):
    owner, bucket = edit_buckets(words)

    for i, j in itertools.combinations(range(len(words)), 2):
        shared = np.intersect1d(bucket[owner == i], bucket[owner == j])
        assert bool(shared.size) == bool(left_out(words[i]) & left_out(words[j]))
    assert [np.sum(owner == i) for i in range(len(words))] == [len(left_out(form)) for form in words]


# Real sets


def test_the_capitals_are_grouped_by_country_without_their_column():
    capitals = read_statements(str(ROOT / "examples" / "capitals.csv"))

    assert partition(found_groups(capitals.texts)) == partition(np.unique(capitals.groups, return_inverse=True)[1])


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "groups", "several", "largest"),
    [
        ("truthfulqa", 410, 410, 6),  # questions
        ("toxigen", 6403, 108, 5),  # twins, and a text that goes on
        ("confaide", 2269, 40, 5),  # twins
        ("stereoset", 969, 969, 4),  # contexts, seven of which two pairs share
        ("sst2", 1821, 1821, 2),  # clean and perturbed
    ],
)
def test_the_authors_sets(shared, name, groups, several, largest):
    sizes = np.bincount(found_groups(read_statements(name, shared / "data").texts))

    assert (len(sizes), (sizes > 1).sum(), sizes.max()) == (groups, several, largest)


@pytest.mark.real
def test_all_adjacent_pairs_of_stereoset_are_together(shared):
    groups = found_groups(read_statements("stereoset", shared / "data").texts)

    assert (groups[::2] == groups[1::2]).sum() == 976
