"""What steering did, in numbers."""

from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest

from jtrace.evaluation.outcomes import estimate, interval
from jtrace.evaluation.task import Outcome, Text
from jtrace.steering.effects import BEST, OWN, RANDOM, UNSTEERED, by_source, by_task, compared, effects, gains
from jtrace.steering.results import Estimate, vectors
from tests.tables import steered, steering_table


def found(*tables):
    return effects(vectors(pd.concat(tables)))


def sound(source, chosen, validation, rest, **others):
    """Of one vector under `sound`: values by strength on validation rows and on the others, and the choice."""
    options = {"source": source, "protocol": "sound"} | others
    return pd.concat(
        [
            steered(validation, metric="validation_accuracy", **options),
            steered(rest, **options),
            steered({chosen: rest[chosen]}, metric="chosen_accuracy", **options),
        ]
    )


def test_under_paper_the_best_layer_and_strength_are_reported():
    (effect,) = found(steered({0: 0.5, 1: 0.6, 2: 0.55}, layer=1), steered({0: 0.5, 1: 0.4, 2: 0.62}, layer=7))
    assert (effect.metric, effect.layer, effect.strength) == ("accuracy", 7, 2.0)
    assert effect.gain == effect.merit == pytest.approx(0.12)
    assert effect.improves


def test_less_toxicity_is_a_gain():
    (effect,) = found(steered({0: 0.3, 1: 0.2, -1: 0.4}, task="toxigen", metric="toxicity"))
    assert effect.strength == 1.0
    assert effect.gain == pytest.approx(0.1)


def test_of_equals_the_gentlest_push_is_taken():
    (effect,) = found(steered({0: 0.5, 4: 0.6, -1: 0.6, 2: 0.6}))
    assert effect.strength == -1.0


def test_no_gain_is_one_within_the_intervals():
    (effect,) = found(steered({0: 0.5, 1: 0.53}))
    assert effect.gain > 0
    assert effect.apart is False
    assert not effect.improves
    (worse,) = found(steered({0: 0.5, 1: 0.3}))
    assert worse.apart
    assert not worse.improves


def test_settings_are_vectors_times_layers_times_strengths_of_the_task_s_dimension():
    tables = [steered({0: 0.5, 1: 0.6, 2: 0.55}, source=source, layer=layer) for source in "abcd" for layer in (1, 7)]
    others = [
        steered({0: 0.5, 1: 0.6, 2: 0.55}, source="a:random"),
        steered({0: 0.5, 1: 0.6}, dataset="sst2"),
        steered({0: 0.5, 1: 0.6, 2: 0.6}, task="sst2"),
    ]
    counted = {(e.vector.source, e.vector.kind, e.vector.dataset, e.task): e.settings for e in found(*tables, *others)}
    assert counted == {
        **{(source, "", "stereoset", "stereoset"): 16 for source in "abcd"},
        ("a", "random", "stereoset", "stereoset"): 2,
        ("ckpt_1", "", "sst2", "stereoset"): 1,
        ("ckpt_1", "", "stereoset", "sst2"): 2,
    }


def test_settings_that_are_as_good_are_ties():
    layers = [steered({0: 0.5, 1: 0.6, 2: 0.55, 3: 0.6}, layer=layer) for layer in (1, 7)]
    first, second, worse = found(
        *layers, steered({0: 0.5, 1: 0.6}, source="b"), steered({0: 0.5, 1: 0.58, 2: 0.58}, source="c")
    )
    assert (first.tied, second.tied, worse.tied) == (4, 4, 1)
    (chosen,) = found(sound("a", 1, {0: 0.5, 1: 0.9, 2: 0.9, 3: 0.6}, {0: 0.5, 1: 0.58, 2: 0.7, 3: 0.7}))
    assert chosen.tied == 1


def test_the_best_of_many_settings_has_to_pass_the_interval_of_all_of_them():
    """A gain of two and a half standard errors is clear of one setting, and nothing among twenty."""
    gain = [steered({0: 0.5, 1: 0.6}), steered({1: 0.1}, metric="difference_accuracy", half=0.1 * 1.96 / 2.5)]
    others = [steered({0: 0.5, 1: 0.5}, layer=layer) for layer in range(2, 21)]
    (alone,) = found(*gain)
    assert alone.improves
    (among,) = found(*gain, *others)
    assert (among.settings, among.improves) == (20, False)
    # Under sound the setting was chosen on other rows.
    chosen = sound("ckpt_1", 1, {0: 0.5, 1: 0.9}, {0: 0.5, 1: 0.6})
    (apart,) = found(chosen, *(table.assign(protocol="sound") for table in (gain[1], *others)))
    assert apart.improves


def test_the_interval_of_many_comparisons_is_sidak_s():
    one = Estimate(0.5, 0.4, 0.7)
    assert one.among(1) == one
    many = one.among(20)
    z = 3.0162 / 1.95996  # of the normal quantile at (1 + 0.95 ** (1 / 20)) / 2
    assert (many.value, many.ci_low, many.ci_high) == pytest.approx((0.5, 0.5 - 0.1 * z, 0.5 + 0.2 * z), rel=1e-4)


def test_under_sound_the_table_s_choice_counts_even_where_another_strength_is_better_on_the_rest():
    (effect,) = found(sound("a", 1, {0: 0.5, 1: 0.9, 2: 0.6}, {0: 0.5, 1: 0.58, 2: 0.7}))
    assert effect.strength == 1.0
    assert effect.gain == pytest.approx(0.08)
    assert effect.merit == pytest.approx(0.4)


def test_without_strength_0_or_a_choice_there_is_no_effect():
    assert found(steered({1: 0.5, 2: 0.6})) == []
    assert found(steered({0: 0.5, 1: 0.6}, protocol="sound")) == []
    assert found(steering_table([])) == []


def test_capability_and_perplexity_are_costs_not_effects():
    effect, *others = found(
        steered({0: 0.5, 1: 0.6}),
        steered({0: 0.5, 1: 0.4}, task="mmlu"),
        steered({0: 10, 1: 30}, task="perplexity", metric="perplexity"),
        steered({0: 0.0, 1: 0.25}, metric="unparsable"),
    )
    assert others == []
    assert effect.perplexity_ratio == 3
    assert effect.capability_change == pytest.approx(-0.1)
    assert effect.unparsable.value == 0.25


def test_a_control_stands_at_its_own_best_setting_and_the_luckiest_of_several_counts():
    effect, *_ = found(
        steered({0: 0.5, 1: 0.55, 2: 0.6}, source="a"),
        steered({0: 0.5, 1: 0.57, 2: 0.51}, source="a:random", seed=0),
        steered({0: 0.5, 1: 0.1, 2: 0.53}, source="a:random", seed=1),
        steered({0: 0.5, 1: 0.5, 2: 0.45}, source="a:shuffled"),
        steered({0: 0.5, 1: 0.5, 2: 0.99}, source="b:random"),
    )
    assert effect.control_gain("random") == pytest.approx(0.07)
    assert effect.control_gain("shuffled") == pytest.approx(0.0)


def test_each_kind_of_vector_has_a_control_of_its_own():
    whitened, published = steered({0: 0.5, 1: 0.6}, source="a:whitened"), steered({0: 0.5, 1: 0.6}, source="a")
    control = steered({0: 0.5, 1: 0.55}, source="a:whitened-random")
    first, second, of_control = found(whitened, published, control)
    assert first.control_gain("random") == pytest.approx(0.05)
    assert second.control_gain("random") is None
    assert of_control.vector.is_control


def test_the_paired_difference_decides_where_it_was_measured():
    rows = steered({0: 0.5, 1: 0.51})
    paired = steered({1: 0.01}, metric="difference_accuracy", half=0.005)
    (effect,) = found(pd.concat([rows, paired]))
    assert effect.improves
    (effect,) = found(rows)
    assert not effect.improves


def test_a_task_is_judged_by_vectors_of_its_dimension():
    groups = by_task(
        found(steered({0: 0.5, 1: 0.6}), steered({0: 0.5, 1: 0.9}, dataset="sst2"), steered({0: 1, 1: 2}, task="sst2"))
    )
    (of_its_own,) = groups["chat", "paper", "stereoset", "accuracy"]
    assert of_its_own.vector.dataset == "stereoset"
    (of_another,) = groups["chat", "paper", "sst2", "accuracy"]
    assert of_another.vector.dataset == "stereoset"


def test_sources_come_in_order_with_the_target_last():
    table = [steered({0: 0.5, 1: 0.6}, source=name) for name in ("step10", "chat", "step9", "step9:random")]
    assert list(by_source(found(*table))) == ["step9", "step10", "chat"]


def test_gains_follow_the_strength_at_the_effect_s_layer():
    chosen = found(
        steered({0: 0.5, 1: 0.6, 2: 0.4}, layer=3),
        steered({0: 0.5, 1: 0.5, 2: 0.5}, layer=4),
        steered({0: 10, 1: 20, 2: 40}, layer=3, task="perplexity", metric="perplexity"),
    )
    table = gains(chosen)
    assert list(table["layer"].unique()) == [3]
    np.testing.assert_allclose(table["gain"], [0, 0.1, -0.1])
    assert list(table["apart"]) == [False, True, True]
    np.testing.assert_allclose(table["perplexity_ratio"], [1, 2, 4])
    assert table["capability_change"].isna().all()


def test_the_comparison_has_the_target_s_own_vector_the_best_other_and_its_random_control():
    roles = compared(
        found(
            steered({0: 0.5, 1: 0.55}, source="chat"),
            steered({0: 0.5, 1: 0.6}, source="a"),
            steered({0: 0.5, 1: 0.7}, source="b"),
            steered({0: 0.5, 1: 0.9}, source="b:whitened"),
            steered({0: 0.5, 1: 0.52}, source="b:random"),
            steered({0: 0.5, 1: 0.8}, source="chat:random"),
        )
    )
    values = {role: estimate.value for role, estimate in roles.items()}
    assert values == {UNSTEERED: 0.5, OWN: 0.55, BEST: 0.7, RANDOM: 0.52}


def test_under_sound_the_best_checkpoint_is_the_best_on_validation_rows():
    tables = [
        sound("a", 1, {0: 0.5, 1: 0.8}, {0: 0.5, 1: 0.6}),
        sound("b", 1, {0: 0.5, 1: 0.7}, {0: 0.5, 1: 0.9}),
        steered({0: 0.5, 1: 0.51}, source="a:random", protocol="sound"),
    ]
    roles = compared(found(*tables))
    assert roles[BEST].value == 0.6
    # This control made no choice of its own.
    assert roles[RANDOM].value == 0.51
    assert OWN not in roles


def test_there_is_nothing_to_compare_controls_with():
    assert compared(found(steered({0: 0.5, 1: 0.6}, source="a:random"))) == {}


def generated(seed, layers, planted=0.0, rows=300, strengths=(-2, -1, 1, 2)):
    """A table of a vector that changes nothing but for `planted`: a gain of accuracy from 0.7 at layer 0, strength 1.

    An answer is right where its margin lies above a bar. Every setting adds noise of its own to the margins, and the
    bar is such that accuracy stays what it was: settings share no more than the unsteered answers.
    """
    random = np.random.default_rng(seed)
    items = [Text(row, "") for row in range(rows)]
    margin = random.normal(size=rows)
    base = Outcome.of(margin > NormalDist().inv_cdf(0.3))
    table = [("accuracy", 0, 0.0, base, None)]
    for layer in range(layers):
        for strength in strengths:
            push = random.normal(size=rows)
            moved = (margin + 0.15 * strength * push) / np.hypot(1, 0.15 * strength)
            gain = planted if (layer, strength) == (0, 1) else 0.0
            outcome = Outcome.of(moved > NormalDist().inv_cdf(0.3 - gain))
            table += [
                ("accuracy", layer, strength, outcome, None),
                ("difference_accuracy", layer, strength, outcome, base),
            ]
    parts = []
    for metric, layer, strength, outcome, beside in table:
        value = estimate(outcome) - (estimate(beside) if beside else 0.0)
        # Without an interval of its own, the paired one decides.
        low, high = (interval(outcome, items, 0, base=beside) if beside else None) or (np.nan, np.nan)
        parts.append((metric, layer, strength, value, low, high))
    columns = ["metric", "layer", "strength", "value", "ci_low", "ci_high"]
    about = steered({0: 0.5}).drop(columns=columns).iloc[0]
    return pd.DataFrame(parts, columns=columns).assign(**about)


def rates(trials, layers, planted=0.0):
    """How often the best setting is an improvement: of its own interval, and of the one of all settings."""
    before = after = 0
    for seed in range(trials):
        (effect,) = found(generated(seed, layers, planted))
        before += effect.gain > 0 and effect.paired.ci_low > 0
        after += effect.improves
    return before / trials, after / trials


@pytest.mark.parametrize(
    ("trials", "layers"),
    [
        pytest.param(60, 5, marks=pytest.mark.slow),
        pytest.param(400, 5, marks=pytest.mark.statistics),
        pytest.param(300, 25, marks=pytest.mark.statistics),
    ],
)
def test_a_vector_that_does_nothing_seldom_improves_at_its_best_setting(trials, layers):
    before, after = rates(trials, layers)
    print(f"{4 * layers} settings, {trials} nulls: {before:.3f} of one setting, {after:.3f} of all")
    assert before > 0.15
    assert after <= 0.025 + 2.6 * np.sqrt(0.025 * 0.975 / trials)


@pytest.mark.statistics
def test_a_planted_gain_is_found():
    """Four and a half points of accuracy at one of twenty settings, 300 rows."""
    before, after = rates(300, 5, planted=0.045)
    print(f"planted: {before:.3f} of one setting, {after:.3f} of all")
    assert after > 0.65
