"""What steering did, in numbers."""

import numpy as np
import pandas as pd
import pytest

from jtrace.behaviour import vectors
from jtrace.effects import BEST, OWN, RANDOM, UNSTEERED, by_source, by_task, compared, effects, gains
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
    assert effect.settings == 2


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
