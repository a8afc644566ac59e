"""Every epoch takes each row once."""

import numpy as np

from jtrace.data.corpus.epochs import Order


def test_every_epoch_takes_each_row_once_in_another_order():
    order = Order(np.arange(10), 4, seed=0)
    taken = np.concatenate([order.step(step) for step in range(5)])
    assert sorted(taken[:10]) == sorted(taken[10:]) == list(range(10))
    assert list(taken[:10]) != list(taken[10:])
    assert [order.tokens(step) for step in range(6)] == [0, *np.cumsum(taken.reshape(5, 4).sum(axis=1))]


def test_a_step_may_reach_over_several_epochs():
    taken = Order(np.ones(3, int), 8, seed=1).step(0)
    assert sorted(taken[:3]) == sorted(taken[3:6]) == [0, 1, 2]
    assert Order(np.full(3, 5), 8, seed=1).tokens(2) == 80
