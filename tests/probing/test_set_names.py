"""Names of sums of sets: what a factor makes of them."""

import pytest

from jtrace.probing.set_names import factor_and_name, times


@pytest.mark.parametrize(
    ("term", "parts"),
    [("a", (1.0, "a")), ("2*a", (2.0, "a")), ("-0.5*a", (-0.5, "a")), ("*a", (1.0, "*a")), ("x*a", (1.0, "x*a"))],
)
def test_a_term_is_a_factor_and_a_set(term, parts):
    assert factor_and_name(term) == parts


@pytest.mark.parametrize(
    ("factor", "expression", "product"),
    [(1.0, "a", "a"), (-2.0, "a", "-2*a"), (2.0, "0.5*a", "a"), (0.5, "a+-2*b", "0.5*a+-1*b")],
)
def test_a_sum_times_a_factor_is_named_term_by_term(factor, expression, product):
    assert times(factor, expression) == product
