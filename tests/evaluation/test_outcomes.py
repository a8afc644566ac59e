"""Intervals cover what they should, and know that rows of a group tell of each other."""

import numpy as np
import pytest

from jtrace.evaluation.outcomes import estimate, interval, validation_part
from jtrace.evaluation.task import Outcome, Text


def items(groups):
    return [Text(i, "", group) for i, group in enumerate(groups)]


def clustered(random, groups=60, size=5, mean=0.6, spread=2.0):
    """Binary values whose groups differ: each group's probability is beta distributed around the mean."""
    probability = np.repeat(random.beta(spread * mean, spread * (1 - mean), groups), size)
    values = (random.random(groups * size) < probability).astype(float)
    return values, items(np.repeat([f"group {g}" for g in range(groups)], size))


def width(bounds):
    low, high = bounds
    return high - low


def test_intervals_cover_the_true_mean_at_their_nominal_rate():
    random, covered, alone = np.random.default_rng(0), 0, 0
    for seed in range(200):
        values, rows = clustered(random)
        low, high = interval(Outcome.of(values), rows, seed)
        covered += low <= 0.6 <= high
        if seed < 50:
            low, high = interval(Outcome.of(values), items([""] * len(rows)), seed)
            alone += low <= 0.6 <= high
    assert 0.90 <= covered / 200 <= 0.985
    assert alone / 50 < 0.90  # what it would be if rows did not tell of each other


@pytest.mark.slow
def test_weighted_and_exponential_metrics_are_covered_too():
    """Perplexity over documents of unequal length, whose losses are distributed around 2 nats."""
    random, covered = np.random.default_rng(1), 0
    for seed in range(200):
        lengths = random.integers(5, 100, 200)
        outcome = Outcome(random.gamma(4.0, 0.5, 200), lengths.astype(float), exponential=True)
        low, high = interval(outcome, items([""] * 200), seed)
        covered += low <= np.exp(2.0) <= high
    assert 0.90 <= covered / 200 <= 0.985


def test_rows_of_a_group_are_drawn_together():
    values, rows = clustered(np.random.default_rng(2))
    grouped, alone = interval(Outcome.of(values), rows, 0), interval(Outcome.of(values), items([""] * len(rows)), 0)
    assert width(grouped) > 1.3 * width(alone)


def test_an_interval_is_as_wide_as_the_normal_one_where_that_holds():
    values = np.random.default_rng(3).normal(size=2000)
    low, high = interval(Outcome.of(values), items([""] * 2000), 0)
    error = values.std() / np.sqrt(2000)
    assert (low, high) == pytest.approx((values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.2 * error)


def test_a_paired_difference_is_known_better_than_two_metrics_apart():
    random = np.random.default_rng(4)
    values, rows = clustered(random)
    steered = Outcome.of(np.where(random.random(len(rows)) < 0.1, 1.0, values))
    base = Outcome.of(values)
    low, high = interval(steered, rows, 0, base=base)
    assert low <= estimate(steered) - estimate(base) <= high
    apart = np.hypot(width(interval(steered, rows, 0)), width(interval(base, rows, 1)))
    assert high - low < 0.6 * apart
    assert low > 0


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_rate_of_none_or_of_all_has_the_exact_bound(value):
    """Of 20 groups that are alike, 0.025 ** (1 / 20) is the least share that makes this as likely as 2.5 % (0.8316)."""
    outcome, rows = Outcome.of([value] * 40), items([f"{row // 2}" for row in range(40)])
    low, high = interval(outcome, rows, 0)
    assert (low, high) == pytest.approx((0.8316, 1) if value else (0, 0.1684), abs=1e-4)


def test_rates_that_differ_in_no_group_may_differ_by_what_so_many_groups_would_miss():
    values, rows = clustered(np.random.default_rng(5))
    room = 1 - 0.025 ** (1 / 60)
    assert interval(Outcome.of(values), rows, 0, base=Outcome.of(values)) == pytest.approx((-room, room))


def test_a_loss_that_is_the_same_everywhere_is_no_rate():
    """Neither of perplexities nor of numbers beyond 0 and 1 does a binomial bound tell."""
    for outcome in (Outcome(np.zeros(9), np.ones(9), exponential=True), Outcome.of([4.0] * 9)):
        low, high = interval(outcome, items([""] * 9), 0)
        assert low == high == estimate(outcome)


@pytest.mark.parametrize(("trials", "rows"), [(100, 60), pytest.param(1000, 60, marks=pytest.mark.statistics)])
def test_rare_answers_are_covered(trials, rows):
    """One in a hundred: over half of all samples of 60 have none at all, whose draws would say that it is exactly 0."""
    random, covered, none = np.random.default_rng(9), 0, 0
    for _ in range(trials):
        values = random.random(rows) < 0.01
        low, high = interval(Outcome.of(values), items([""] * rows), 0)
        covered += low <= 0.01 <= high
        none += not values.any()
    print(f"{trials} trials: {covered / trials:.3f} covered, {(covered - none) / trials:.3f} without the exact bound")
    assert none / trials > 0.4
    assert covered / trials > 0.93


def test_what_is_alike_in_every_group_has_room_for_groups_that_were_not_asked():
    """60 groups without a difference, or without an error: a rate of up to 6 % gives that in 2.5 % of cases."""
    values, rows = clustered(np.random.default_rng(5))
    room = 1 - 0.025 ** (1 / 60)
    assert interval(Outcome.of(values), rows, 0, base=Outcome.of(values)) == pytest.approx((-room, room))
    assert interval(Outcome.of(np.ones(300)), rows, 0) == pytest.approx((1 - room, 1.0))
    assert interval(Outcome.of(np.zeros(300)), rows, 0) == pytest.approx((0.0, room))


def test_what_is_no_rate_has_no_such_bound():
    rows = items([""] * 50)
    outcome = Outcome(np.full(50, 2.0), np.ones(50), exponential=True)
    assert interval(outcome, rows, 0) == pytest.approx((np.exp(2), np.exp(2)))
    assert interval(outcome, rows, 0, base=outcome) == (0.0, 0.0)


def test_the_same_seed_draws_the_same_and_another_does_not():
    values, rows = clustered(np.random.default_rng(6))
    once, again, other = (interval(Outcome.of(values), rows, seed) for seed in (7, 7, 8))
    assert once == again
    assert once != other


def test_some_rows_are_as_if_they_were_all():
    values, rows = clustered(np.random.default_rng(7))
    some = np.arange(len(rows)) < 200
    assert interval(Outcome.of(values), rows, 0, some) == interval(Outcome.of(values[:200]), rows[:200], 0)
    assert estimate(Outcome.of(values), some) == pytest.approx(values[:200].mean())


def test_items_that_do_not_count_are_not_drawn():
    values, rows = clustered(np.random.default_rng(8))
    holes = values.copy()
    holes[200:] = np.nan
    assert interval(Outcome.of(holes), rows, 0) == interval(Outcome.of(values[:200]), rows[:200], 0)
    assert estimate(Outcome.of(holes)) == pytest.approx(values[:200].mean())


@pytest.mark.parametrize(
    ("values", "groups"),
    [
        ([], []),
        ([1.0], [""]),
        ([1.0, 0.0, 1.0], ["a", "a", "a"]),
        ([1.0, np.nan], ["", ""]),
        ([np.nan, np.nan], ["", ""]),
    ],
)
def test_fewer_than_two_groups_say_nothing(values, groups):
    assert interval(Outcome.of(values), items(groups), 0) is None


def test_nothing_that_counts_has_no_metric():
    assert np.isnan(estimate(Outcome.of([np.nan])))
    assert np.isnan(estimate(Outcome.of([1.0, 2.0]), np.array([False, False])))


def test_estimates_are_weighted_means_and_perplexity_is_a_power_of_e():
    outcome = Outcome(np.array([1.0, 3.0]), np.array([3.0, 1.0]))
    assert estimate(outcome) == 1.5
    assert estimate(Outcome(outcome.values, outcome.weights, exponential=True)) == pytest.approx(np.exp(1.5))


@pytest.mark.parametrize("groups", [[""] * 300, [f"{i // 4}" for i in range(300)], [f"{i % 90}" for i in range(300)]])
def test_about_a_third_of_the_rows_in_whole_groups_choose(groups):
    rows = items(groups)
    chosen = validation_part(rows, seed=0)
    assert chosen.dtype == bool
    assert 100 <= chosen.sum() < 104
    for group in set(groups) - {""}:
        assert len({bool(c) for c, g in zip(chosen, groups, strict=True) if g == group}) == 1


def test_which_rows_choose_is_drawn_by_the_seed():
    rows = items([""] * 300)
    first, again, other = (validation_part(rows, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert 30 <= validation_part(rows, 0, share=0.1).sum() <= 31
