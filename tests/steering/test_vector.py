"""Steering vectors as algebra, and conditions as the decoder's numbers."""

import numpy as np
import pytest

from jtrace.errors import InputError
from jtrace.models.intervention import POSITIONS, steered_from
from jtrace.steering.vector import OPERATORS, Condition, SteeringVector, combined, edit_of

random = np.random.default_rng(0)
A, B = (
    SteeringVector(random.normal(size=(4, 6)).astype(np.float32), (0, 1, 2, 3), "step1", name, one_is_good=True)
    for name in ("a", "b")
)
BY_SET = {"a": A, "b": B, "a+b": -A}


def test_minus_minus_is_the_vector_itself_bit_for_bit():
    once = -A
    twice = -once
    np.testing.assert_array_equal(twice.values.view(np.uint32), A.values.view(np.uint32))
    assert (twice.dataset, twice.one_is_good, twice.layers, twice.source) == ("a", True, A.layers, "step1")


def test_scaling_and_adding_is_done_in_float32():
    found = 0.5 * A + B * 2
    assert found.values.dtype == np.float32
    np.testing.assert_array_equal(found.values, np.float32(0.5) * A.values + 2 * B.values)
    assert found.dataset == "0.5*a+2*b"


def test_factors_of_a_sum_multiply():
    assert (-2 * (A + 0.5 * B)).dataset == "-2*a+-1*b"
    assert (2 * (0.5 * A)).dataset == "a"


def test_a_sum_is_made_for_the_layers_of_both():
    some = SteeringVector(A.values, (1, 3), "step1", "c")
    assert (A + some).layers == (1, 3)


def test_the_trustworthy_side_follows_the_sign():
    assert (2 * A).one_is_good is True
    assert (-0.5 * A).one_is_good is False
    assert (-0.5 * (-0.5 * A)).one_is_good is True
    assert (A + B).one_is_good is True
    # Of a sum of vectors that point to different sides nobody knows.
    assert (A + -B).one_is_good is None
    assert (-SteeringVector(A.values, A.layers, "step1", "c")).one_is_good is None


def test_towards_good_turns_only_what_points_away():
    assert A.towards_good() is A
    np.testing.assert_array_equal((-A).towards_good().values, A.values)
    with pytest.raises(InputError, match="the vector of 'c' does not say which side is trustworthy; leave"):
        SteeringVector(A.values, A.layers, "step1", "c").towards_good()


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("a", A),
        ("a+-0.5*b", A + -0.5 * B),
        ("2*a + b", 2 * A + B),
        ("-1*b", -B),
        ("a+b", -A),  # a set of that very name
    ],
)
def test_expressions_are_sums_of_sets(expression, expected):
    found = combined(expression, BY_SET)
    np.testing.assert_array_equal(found.values, expected.values)
    assert (found.dataset, found.one_is_good) == (expected.dataset, expected.one_is_good)


def test_the_name_of_a_sum_is_an_expression_for_it():
    made = combined("a+-0.5*b", BY_SET)
    again = combined(made.dataset, BY_SET)
    assert made.dataset == again.dataset == "a+-0.5*b"
    np.testing.assert_array_equal(made.values, again.values)


@pytest.mark.parametrize(("expression", "name"), [("c", "c"), ("a+2*c", "c"), ("a-b", "a-b"), ("a+", ""), ("", "")])
def test_an_unknown_set_is_named_with_the_known_ones(expression, name):
    with pytest.raises(InputError) as caught:
        combined(expression, BY_SET)
    assert str(caught.value) == f"--vector_set={expression}: the vectors hold no set '{name}', but a, b, a+b"


def test_each_position_s_first_steered_token():
    assert [steered_from(5, positions) for positions in POSITIONS] == [4, 0, 5]


@pytest.mark.parametrize("how", OPERATORS)
def test_condition_0_and_other_layers_do_nothing(how):
    edit = edit_of(A, [Condition((1, 3), 2.0), Condition((), 5.0)], how)
    assert edit.vector.shape == (4, 3, 6)
    for part in (edit.push, edit.shrink, edit.keep_norm):
        assert part.shape == (4, 3)
        assert not np.asarray(part)[:, [0, 2]].any()
        assert not np.asarray(part)[[0, 2]].any()
    for condition in range(3):
        np.testing.assert_array_equal(edit.vector[:, condition], A.values)


@pytest.mark.parametrize(
    ("how", "expected"),
    [("add", (2, 0, 0)), ("add_keep_norm", (2, 0, 1)), ("project_out", (0, 2, 0)), ("clamp", (2, 1, 0))],
)
def test_operators_are_values_of_three_numbers(how, expected):
    edit = edit_of(A, [Condition((1,), 2.0)], how)
    assert (edit.push[1, 1], edit.shrink[1, 1], edit.keep_norm[1, 1]) == expected


@pytest.mark.parametrize("how", OPERATORS)
def test_strength_0_is_no_edit_whatever_the_operator(how):
    edit = edit_of(A, [Condition((1,), 0.0)], how)
    assert not np.any([edit.push, edit.shrink])


@pytest.mark.parametrize("strength", [float("nan"), float("inf"), float("-inf")])
def test_a_strength_that_is_no_number_is_refused(strength):
    with pytest.raises(InputError, match=f"a strength of {strength} is not a number to steer with; give finite ones"):
        edit_of(A, [Condition((1,), 1.0), Condition((1,), strength)])


def test_a_layer_that_the_vector_was_not_made_for_is_refused():
    some = SteeringVector(A.values, (0, 1, 3), "step1", "c")
    with pytest.raises(InputError, match="the vectors of step1 have no layer 2; they have 0-1, 3"):
        edit_of(some, [Condition((1, 2), 1.0)])
