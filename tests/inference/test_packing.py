"""Packed prefix trees: every sequence can be read back, each distinct prefix of a row is stored once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jtrace.inference.packing import Packed, cheapest_width, operations_per_slot, pack, under
from jtrace.models.config import DecoderConfig, LayerKind, Rope

CONFIG = DecoderConfig(50, 16, 4, 2, 4, 24, 4096, (LayerKind(Rope(1e4)),) * 3, 1e-5)
# Few tokens and short sequences, so that shared, nested and repeated ones are common.
sequences = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=9), min_size=1, max_size=40)

# The same under conditions from some token on, so that beginnings are shared whatever comes later.
steered = st.lists(
    st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=7), st.integers(0, 2), st.integers(0, 7)),
    min_size=1,
    max_size=30,
)


def conditioned(drawn) -> list[np.ndarray]:
    return [
        under(np.array(ids, np.int32), condition * (np.arange(len(ids)) >= first)) for ids, condition, first in drawn
    ]


def arrays(lists) -> list[np.ndarray]:
    return [np.array(ids, np.int32) for ids in lists]


def visible_sequence(packed: Packed, row: int, read: int) -> list[int]:
    """What slot `read` sees, in order: the sequence it stands for."""
    seen = [i for i in range(read + 1) if read < packed.ends[row, i]]
    assert [int(packed.positions[row, i]) for i in seen] == list(range(len(seen)))
    return [int(packed.tokens[row, i]) for i in seen]


@given(sequences, st.integers(9, 40))
def test_every_sequence_is_what_its_read_slot_sees(lists, width):
    packed = pack(arrays(lists), width)
    seen = {}
    for row in range(packed.rows):
        for slot, index in zip(packed.reads[row], packed.read_of[row], strict=True):
            if index < packed.count:
                assert index not in seen
                seen[int(index)] = visible_sequence(packed, row, int(slot))
    assert [seen[int(index)] for index in packed.distinct] == lists


@given(sequences, st.integers(9, 40))
def test_each_distinct_prefix_of_a_row_is_stored_once(lists, width):
    packed = pack(arrays(lists), width)
    for row in range(packed.rows):
        prefixes = [tuple(visible_sequence(packed, row, slot)) for slot in range(packed.used[row])]
        assert len(prefixes) == len(set(prefixes))


@given(sequences)
def test_one_wide_row_holds_exactly_the_distinct_prefixes(lists):
    packed = pack(arrays(lists), 400)
    prefixes = {tuple(ids[: n + 1]) for ids in lists for n in range(len(ids))}
    assert packed.rows == 1
    assert packed.used[0] == len(prefixes)


@given(sequences, st.integers(9, 40), st.randoms())
def test_the_order_of_sequences_does_not_change_the_rows(lists, width, random):
    shuffled = list(lists)
    random.shuffle(shuffled)
    one, other = pack(arrays(lists), width), pack(arrays(shuffled), width)
    for field in ("tokens", "positions", "ends", "reads", "read_of"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


def test_rows_are_filled_up_with_what_fits_and_neighbours_stay_together():
    """Ten slots a row: 6 + 4 and 6 + 4 fill two, where in order 6 + 6 would need three."""
    alone = [np.full(length, first, np.int32) for first, length in enumerate((6, 6, 4, 4))]
    packed = pack(alone, 10)
    assert packed.used.tolist() == [10, 10]
    # Eight beginnings of six tokens with two ends each, 8 slots a block: only apart would they need more rows.
    family = [np.array([first] * 6 + [last], np.int32) for first in range(8) for last in (8, 9)]
    packed = pack(family, 16)
    assert packed.used.tolist() == [16] * 4
    # One token in common is given up for full rows: 1 2 2 2, 1 3 3 3, 1 4 4 4 … in rows of 8.
    packed = pack([np.array([1, n, n, n], np.int32) for n in range(2, 8)], 8)
    assert packed.rows == 3


@given(sequences, st.integers(9, 40))
def test_padding_slots_see_only_themselves(lists, width):
    packed = pack(arrays(lists), width)
    for row in range(packed.rows):
        for slot in range(packed.used[row], width):
            assert visible_sequence(packed, row, slot) == [0]


def test_equal_sequences_share_a_read_and_a_prefix_is_read_inside():
    packed = pack(arrays([[1, 2, 3], [1, 2], [1, 2, 3]]), 8)
    assert packed.count == 2
    assert packed.distinct.tolist() == [1, 0, 1]
    assert packed.reads.tolist() == [[1, 2]]
    assert packed.ends[0, :3].tolist() == [3, 3, 3]


@pytest.mark.parametrize("bad", [[[]], [[1] * 9]])
def test_empty_and_too_long_sequences_are_refused(bad):
    with pytest.raises(ValueError, match="1 to 8 tokens"):
        pack(arrays(bad), 8)


def test_cheapest_width_holds_the_longest_sequence_and_weighs_padding_against_attention():
    random = np.random.default_rng(0)
    short = [random.integers(0, 50, 20, dtype=np.int32) for _ in range(300)]
    assert cheapest_width([*short, np.zeros(300, np.int32)], CONFIG) >= 300
    # Narrow rows of a wide model: padding costs more than attention, so rows grow past the smallest that fits.
    wide = DecoderConfig(50, 4096, 32, 32, 128, 11008, 4096, (LayerKind(Rope(1e4)),) * 3, 1e-5)
    assert cheapest_width(short, wide) > 64


def test_operations_per_slot_counts_weights_twice_and_attention_by_width():
    weights = 3 * (16 * 16 * 2 + 16 * 8 * 2 + 3 * 16 * 24)
    assert operations_per_slot(CONFIG, 10) == 2 * weights + 3 * 4 * 10 * 16


@given(steered, st.integers(9, 40))
def test_the_path_of_a_sequence_holds_its_tokens_under_its_conditions(drawn, width):
    packed, sequences = pack(conditioned(drawn), width), conditioned(drawn)
    for sequence, index in zip(sequences, packed.distinct, strict=True):
        row, path = packed.row_of[index], packed.paths[index]
        np.testing.assert_array_equal(under(packed.tokens[row, path], packed.conditions[row, path]), sequence)
        # The path is what its last slot sees, each slot the one before it and no other.
        assert [i for i in range(path[-1] + 1) if path[-1] < packed.ends[row, i]] == path.tolist()
        np.testing.assert_array_equal(packed.positions[row, path], np.arange(len(path)))


@given(steered)
def test_slots_are_shared_as_far_as_tokens_and_conditions_are_the_same(drawn):
    packed, sequences = pack(conditioned(drawn), 400), conditioned(drawn)
    prefixes = {tuple(ids[: n + 1].tolist()) for ids in sequences for n in range(len(ids))}
    assert packed.rows == 1
    assert packed.used[0] == len(prefixes)


def test_conditions_branch_off_where_they_begin():
    ids = np.array([5, 6, 7, 8], np.int32)
    packed = pack([under(ids, condition * np.array([0, 0, 1, 1])) for condition in (0, 1, 2)], 10)
    assert packed.tokens.tolist() == [[5, 6, 7, 8, 7, 8, 7, 8, 0, 0]]
    assert packed.conditions.tolist() == [[0, 0, 0, 0, 1, 1, 2, 2, 0, 0]]
    assert packed.positions.tolist() == [[0, 1, 2, 3, 2, 3, 2, 3, 0, 0]]
    assert [path.tolist() for path in packed.paths] == [[0, 1, 2, 3], [0, 1, 4, 5], [0, 1, 6, 7]]


def test_one_condition_may_be_said_of_all_tokens():
    ids = np.array([5, 2**31 - 1], np.int32)
    np.testing.assert_array_equal(under(ids, 3), under(ids, np.array([3, 3])))
    packed = pack([under(ids, 3), ids], 4)
    assert packed.tokens.tolist() == [[5, 2**31 - 1] * 2]
    assert packed.conditions.tolist() == [[0, 0, 3, 3]]
    assert packed.distinct.tolist() == [1, 0]
