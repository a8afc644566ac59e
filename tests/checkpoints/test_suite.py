"""Selecting checkpoints of a suite: every form, and what a selection that fails says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jtrace.checkpoints.suite import Fault, Ramp, Suite, select
from jtrace.errors import InputError

GRID = (0, 1, 2, 4, 8, 100, 200, 300, 400)
REGULAR = Suite("toy", "org/toy", grid=(("step{}", GRID),), tokens_per_unit=10, main=400)
STAGE1 = Suite("wild", "org/wild", pattern=r"(?:stage1-)?step(?P<number>[0-9]+)-tokens(?P<tokens>[0-9]+)B")
STAGE2 = Suite(
    "wild-stage2",
    "org/wild",
    pattern=r"stage2-ingredient(?P<ingredient>[0-9]+)-step(?P<number>[0-9]+)-tokens(?P<tokens>[0-9]+)B",
    tokens_before=21 * 10**9,
)
WILD = (
    "main",
    "step150-tokens1B",
    "stage2-ingredient2-step1000-tokens5B",
    "stage1-step1000-tokens5B",
    "stage1-step5000-tokens21B",
    "stage1-step0-tokens0B",
    "stage2-ingredient1-step2000-tokens9B",
    "stage2-ingredient1-step1000-tokens5B",
    "stage2-ingredient2-step2000-tokens9B",
    "stage2-ingredient1-step2000-tokens9B-another-mix",
)
MEMBERS = Suite("each", "org/b", members=(("org/a", 5, 50), ("org/b", 9, 90)))


def no_hub(repo: str) -> list[str]:
    raise AssertionError(f"asked the hub for {repo}")


def wild(repo: str) -> tuple[str, ...]:
    assert repo == "org/wild"
    return WILD


def numbers(selection: str, suite: Suite = REGULAR, revisions_of=no_hub) -> list[int]:
    return [checkpoint.number for checkpoint in select(suite, selection, revisions_of)]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ("all", list(GRID)),
        ("log", [0, 1, 2, 4, 8, 100, 300, 400]),
        ("100", [100]),
        ("0100", [100]),
        ("300, 4 ,0", [0, 4, 300]),
        ("1-100", [1, 2, 4, 8, 100]),
        ("90-1000", [100, 200, 300, 400]),
        ("100-400/200", [100, 300]),
        ("0-400/4", [0, 4, 8, 100, 200, 300, 400]),
        ("step8", [8]),
        ("0,1-4,100-400/300,step2", [0, 1, 2, 4, 100, 400]),
        ("all,log,2", list(GRID)),
    ],
)
def test_a_selection_is_a_list_of_words_numbers_ranges_and_names(selection, expected):
    assert numbers(selection) == expected


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ("", "'toy:' selects nothing; give all, log, numbers"),
        (" , ", "'toy:' selects nothing"),
        ("3", "'toy' has no step 3; the nearest: 2 and 4"),
        ("500", "'toy' has no step 500; the nearest: 400"),
        ("9-99", "'toy:9-99' selects nothing; the suite has 9 checkpoints, step 0 to 400 (step0 to step400)"),
        ("8-1", "'toy:8-1' selects nothing"),
        ("0-400/0", "'toy:0-400/0': the stride is 0"),
        ("step3", "'step3' is no checkpoint of 'toy', which has 9 checkpoints, step 0 to 400"),
        ("lgo", "give all, log, numbers (0,1,2), ranges (0-100), ranges with a stride (0-100/10) or revisions"),
        ("-1", "'-1' is no checkpoint of 'toy'"),
        ("9" * 5000, "is no checkpoint of 'toy'"),
        ("0,3", "'toy' has no step 3"),
    ],
)
def test_a_selection_that_fails_says_what_there_is_in_one_line(selection, message):
    with pytest.raises(InputError) as error:
        numbers(selection)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def grids(**more) -> st.SearchStrategy[Suite]:
    steps = st.sets(st.integers(0, 10**6), min_size=1, max_size=60).map(lambda found: tuple(sorted(found)))
    return steps.map(lambda found: Suite("any", "org/any", grid=(("step{}", found),), **more))


@given(grids())
def test_log_is_a_part_of_all_in_its_order_with_both_ends_and_at_most_one_per_doubling(suite):
    every, some = numbers("all", suite), numbers("log", suite)
    assert some == [number for number in every if number in set(some)]
    assert {every[0], every[-1]} <= set(some)
    assert len(some) <= 2 + every[-1].bit_length()


@given(grids(), st.data())
def test_a_listed_number_gives_exactly_that_checkpoint(suite, data):
    wanted = data.draw(st.lists(st.sampled_from(suite.grid[0][1]), min_size=1))
    assert numbers(",".join(map(str, wanted)), suite) == sorted(set(wanted))


@given(grids(), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 1000))
def test_a_range_gives_what_lies_between_its_ends_a_stride_apart(suite, first, last, stride):
    expected = [n for n in suite.grid[0][1] if n in range(first, last + 1, stride)]
    if expected:
        assert numbers(f"{first}-{last}/{stride}", suite) == expected
    else:
        with pytest.raises(InputError, match="selects nothing"):
            numbers(f"{first}-{last}/{stride}", suite)


@given(grids())
def test_every_checkpoint_is_found_again_by_its_name(suite):
    for checkpoint in suite.checkpoints(no_hub):
        assert suite.named("org/any", checkpoint.revision) == checkpoint


def test_log_takes_about_every_doubling():
    dense = Suite("dense", "org/dense", grid=(("{}", range(1000)),))
    assert numbers("log", dense) == [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 999]


def test_irregular_names_come_in_training_order_with_the_tokens_that_they_tell():
    found = STAGE1.checkpoints(wild)
    assert [(c.revision, c.number, c.tokens) for c in found] == [
        ("stage1-step0-tokens0B", 0, 0),
        ("step150-tokens1B", 150, 10**9),
        ("stage1-step1000-tokens5B", 1000, 5 * 10**9),
        ("stage1-step5000-tokens21B", 5000, 21 * 10**9),
    ]


def test_a_later_stage_counts_the_tokens_of_those_before_and_runs_its_ingredients_one_after_another():
    found = STAGE2.checkpoints(wild)
    assert [(c.revision, c.tokens) for c in found] == [
        ("stage2-ingredient1-step1000-tokens5B", 26 * 10**9),
        ("stage2-ingredient1-step2000-tokens9B", 30 * 10**9),
        ("stage2-ingredient2-step1000-tokens5B", 26 * 10**9),
        ("stage2-ingredient2-step2000-tokens9B", 30 * 10**9),
    ]
    assert len(select(STAGE2, "1000", wild)) == 2


def test_a_repository_without_a_name_of_the_suite_s_kind_is_an_error():
    with pytest.raises(InputError, match="org/wild has no revision named like the suite 'wild'"):
        select(STAGE1, "all", lambda repo: ["main", "v1"])


def test_tokens_are_unknown_where_any_part_of_them_is():
    assert Suite("a", "o/a", grid=(("s{}", (3,)),)).checkpoints(no_hub)[0].tokens is None
    late = Suite("a", "o/a", grid=(("s{}", (3,)),), tokens_per_unit=10, tokens_before=None)
    assert late.checkpoints(no_hub)[0].tokens is None


def test_main_stands_for_the_checkpoint_it_holds():
    main = REGULAR.named("org/toy", "main")
    assert main is not None
    assert (main.revision, main.number, main.tokens) == ("main", 400, 4000)
    assert STAGE1.named("org/wild", "main") is None


def test_a_faulty_number_warns_and_no_other_does():
    suite = Suite("bad", "org/bad", grid=(("step{}", (1, 2, 3)),), faults=(Fault((2,), "wrong (x#1)"),))
    assert [c.warning for c in suite.checkpoints(no_hub)] == ["", "wrong (x#1)", ""]


def test_a_fault_without_numbers_is_every_revision_s_and_main_s_too():
    suite = Suite("bad", "org/bad", grid=(("step{}", (1, 2)),), main=2, faults=(Fault(None, "no BOS"),))
    assert [c.warning for c in suite.checkpoints(no_hub)] == ["no BOS", "no BOS"]
    assert suite.named("org/bad", "main").warning == "no BOS"
    assert suite.warning_beside("v1") == "no BOS"


def test_what_main_holds_is_told_of_main_alone():
    suite = Suite("bad", "org/bad", main_is="an average", faults=(Fault(None, "no BOS"), Fault((1,), "wrong")))
    assert suite.warning_beside("main") == "main is an average; no BOS"
    assert suite.warning_beside("v1") == "no BOS"


def test_tokens_in_a_name_have_a_unit_where_the_pattern_has_one():
    pattern = r"step(?P<number>[0-9]+)-tokens(?P<tokens>[0-9.]+)(?P<unit>[BT])"
    suite = Suite("units", "org/units", pattern=pattern)
    names = ["step3-tokens15T", "step2-tokens1.5T", "step1-tokens210B"]
    assert [c.tokens for c in suite.checkpoints(lambda repo: names)] == [210 * 10**9, 1500 * 10**9, 15 * 10**12]


@given(
    first=st.integers(1, 50),
    rise=st.integers(1, 20),
    rises=st.integers(1, 5),
    over=st.integers(1, 3000),
    steps=st.integers(0, 400),
)
def test_the_tokens_of_a_ramp_are_the_sum_of_its_batches(first, rise, rises, over, steps):
    """The batch of each step is computed as Megatron does: from the sequences seen before it."""
    last, seen = first + rise * rises, 0
    for _ in range(steps):
        seen += min(last, first + rise * (seen * rises // over))
    assert Ramp(first, rise, last, over, length=7).tokens(steps) == 7 * seen


def test_a_suite_with_a_ramp_counts_tokens_by_it():
    suite = Suite("ramp", "org/ramp", grid=(("s{}", (0, 1, 2, 3)),), ramp=Ramp(1, 1, 2, 2, length=10), tokens_before=5)
    assert [c.tokens for c in suite.checkpoints(no_hub)] == [5, 15, 25, 45]


def test_a_suite_of_repositories_takes_the_main_of_each():
    assert [(c.repo, c.revision, c.number, c.tokens) for c in select(MEMBERS, "all", no_hub)] == [
        ("org/a", "main", 5, 50),
        ("org/b", "main", 9, 90),
    ]
    assert numbers("org/b", MEMBERS) == [9]
    assert MEMBERS.named("org/a", "main").number == 5
    assert MEMBERS.named("org/a", "step5") is None
    with pytest.raises(InputError, match="2 checkpoints, step 5 to 9 \\(org/a to org/b\\)"):
        numbers("main", MEMBERS)


def test_the_weights_size_is_known_where_both_its_factors_are():
    assert Suite("a", "o/a", parameters=10, bytes_per_parameter=2).weight_bytes == 20
    assert Suite("a", "o/a", parameters=10).weight_bytes is None
    assert Suite("a", "o/a", bytes_per_parameter=2).weight_bytes is None
