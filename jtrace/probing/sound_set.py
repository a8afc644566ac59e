"""A statement set as protocol `sound` sees it: groups, folds, independent rows and a control task.

Axes: N rows, m independent rows.
"""

from dataclasses import dataclass

import numpy as np

from jtrace.data.control_task import ControlTask, control_task
from jtrace.data.groups import groups_of
from jtrace.data.splits import Fold, one_per_group, repeated_folds
from jtrace.data.statements import Statements
from jtrace.stats.bootstrap import effective_groups


@dataclass(frozen=True)
class SoundConfig:
    """Settings that decide the numbers of protocol `sound`.

    Attributes:
        folds: of the grouped cross-validation.
        repeats: of it, each with folds of its own.
        inner_folds: 1 chooses C on one hold-out of the training rows, k on k folds of them.
        permutations: of the null of information.
        draws: of the cluster bootstrap.
        information_rows: most rows, one per group, that information is estimated on; values of sets with the same
            number of them can be compared.
    """

    folds: int = 5
    repeats: int = 1
    inner_folds: int = 1
    permutations: int = 200
    draws: int = 1000
    information_rows: int = 400
    seed: int = 0


@dataclass(frozen=True, eq=False)
class SoundSet:
    """A statement set as protocol `sound` sees it; the same for all checkpoints.

    Attributes:
        groups: of each row, int64 [N].
        folds: repeats-major.
        independent: rows of different groups, int64 [m].
        control: what the probe is fitted to beside the labels.
    """

    statements: Statements
    config: SoundConfig
    groups: np.ndarray
    folds: tuple[Fold, ...]
    independent: np.ndarray
    control: ControlTask

    @property
    def effective_groups(self) -> float:
        return effective_groups(np.bincount(self.groups))


def sound_set(statements: Statements, config: SoundConfig) -> SoundSet:
    """Groups, folds and independent rows of a set.

    Raises:
        InputError: too few groups, or a label that a part of the split would lack.
    """
    groups, name = groups_of(statements), statements.source
    folds = repeated_folds(
        statements.labels, groups, config.folds, config.repeats, config.inner_folds, config.seed, name
    )
    independent = one_per_group(statements.labels, groups, config.information_rows, config.seed, name)
    control = control_task(statements.texts, statements.labels, folds, config.seed)
    return SoundSet(statements, config, groups, folds, independent, control)
