"""A control task: labels dealt out at random to the last words of texts, to be learnt by the same probe.

A probe does well on it by recognising words that recur and remembering their labels (Hewitt and Liang 2019,
arXiv 1909.03368). Axes: R repeats of the cross-validation, N rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jtrace.data.groups import numbered, words_of
from jtrace.data.splits import Fold


# eq=False: comparing arrays has no single truth value.
@dataclass(frozen=True, eq=False)
class ControlTask:
    """Labels by last word.

    Attributes:
        labels: 0 or 1, the same for all rows with one last word (case ignored), float32 [R, N].
        recurs: rows whose last word occurs among the rows that their probe is fitted to, in each repeat: bool [N].
    """

    labels: np.ndarray
    recurs: np.ndarray


def control_task(texts: Sequence[str], labels: np.ndarray, folds: Sequence[Fold], seed: int) -> ControlTask:
    """Deals out labels to last words, half of them 1: of two words of similar frequency, one gets each label.

    Args:
        labels: labels of the set. They are used where rows to fit on would have only one control label; then no row
            recurs.
    """
    words = numbered(form[-1] for form in words_of(texts))
    sizes = np.bincount(words)
    dealt = []
    for repeat in range(folds[-1].repeat + 1):
        random = np.random.default_rng((seed, repeat))
        by_size = np.lexsort((random.random(len(sizes)), -sizes))
        of_word = np.empty(len(sizes), np.float32)
        coins = np.repeat(random.integers(0, 2, len(sizes) // 2 + 1), 2)[: len(sizes)]
        of_word[by_size] = (np.arange(len(sizes)) + coins) % 2
        dealt.append(of_word[words])
    by_repeat, recurs = np.stack(dealt), np.ones(len(texts), bool)
    for fold in folds:
        recurs[fold.test] &= np.isin(words[fold.test], words[fold.train])
    if any(len(np.unique(by_repeat[fold.repeat, fold.train])) < 2 for fold in folds):
        return ControlTask(np.broadcast_to(labels.astype(np.float32), by_repeat.shape), np.zeros(len(texts), bool))
    return ControlTask(by_repeat, recurs)
