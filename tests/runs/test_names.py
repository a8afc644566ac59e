"""What the columns of steering tables say is what was written into them."""

import pytest

from jtrace.models.intervention import POSITIONS
from jtrace.probing.vectors import KINDS
from jtrace.runs.names import Placement, VectorName, first_set, set_in_layers, set_of
from jtrace.steering.vector import OPERATORS


@pytest.mark.parametrize("checkpoint", ["smollm2", "org--model@step-3", "a-random"])
@pytest.mark.parametrize("kind", ["", *KINDS, "plain"])
def test_a_vector_s_name_is_read_as_it_was_written(checkpoint, kind):
    name = VectorName(checkpoint, kind)
    assert VectorName.parse(str(name)) == name
    assert VectorName.parse(str(name.random)) == name.random
    assert name.random.controlled_kind == kind


def test_vectors_are_named_as_tables_always_had_them():
    assert str(VectorName("m")) == "m"
    assert str(VectorName("m").random) == "m:random"
    assert str(VectorName("m", "whitened").random) == "m:whitened-random"
    assert str(VectorName("")) == ""


@pytest.mark.parametrize(
    ("text", "control"),
    [("m", ""), ("m:whitened", ""), ("m:random", "random"), ("m:whitened-random", "random"), ("m:shuffled", "shuffled"),
     ("a-random", ""), ("random", "")],
)  # fmt: skip
def test_controls_are_told_by_their_kind_and_not_by_the_checkpoint_s_name(text, control):
    assert VectorName.parse(text).control == control


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_a_placement_is_read_as_it_was_written(positions, operator):
    assert Placement.parse(str(Placement(positions, operator))) == Placement(positions, operator)


def test_the_published_operator_is_not_named():
    assert str(Placement("last", "add")) == "last"
    assert str(Placement("last", "project_out")) == "last project_out"


def test_a_set_is_told_from_layers_factors_and_variants():
    assert set_in_layers("sst2", (3,)) == "sst2"
    assert set_in_layers("2*sst2+toxigen", (3, 4)) == "2*sst2+toxigen@3+4"
    assert first_set("2*sst2_small+toxigen") == "sst2_small"
    assert {set_of(text) for text in ("sst2", "sst2_small", "sst2@3+4", "-0.5*sst2+toxigen@3+4")} == {"sst2"}
