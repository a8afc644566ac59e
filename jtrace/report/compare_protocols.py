"""Comparison of the protocols `paper` and `sound`, set by set and measure by measure.

Each comparison is a row: what either protocol has, and the verdict. There is none where a number is missing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from jtrace.dynamics.trajectory import Trajectory
from jtrace.report.figures.style import at_text, span_text
from jtrace.report.findings import LEVEL, PAIRED, Finding
from jtrace.report.format import listed, number, spread, with_spread
from jtrace.report.standings import SetAtLastCheckpoint
from jtrace.stats.quantiles import Z95
from jtrace.steering.results import Estimate

INFORMATION = {"mi_xt": "I(X;T)", "mi_yt": "I(Y;T)"}


@dataclass(frozen=True)
class Comparison:
    """A measure of one set under both protocols.

    Attributes:
        measure: what is compared, and where.
        paper, sound: the numbers of each protocol.
        reason: what makes them differ; empty where the two agree in all.
    """

    measure: str
    paper: str
    sound: str
    agrees: bool
    reason: str = ""

    @property
    def verdict(self) -> str:
        """`agree` or `differ`, with the reason."""
        return ("agree" if self.agrees else "differ") + (f": {self.reason}" if self.reason else "")


@dataclass(frozen=True)
class SideBySide:
    """All comparisons of one set of one model.

    Attributes:
        model: empty for a curve of models.
    """

    model: str
    dataset: str
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True, eq=False)
class Pair:
    """One set of one model under both protocols, with the table of turns."""

    paper: SetAtLastCheckpoint
    paper_finding: Finding
    sound: SetAtLastCheckpoint
    sound_finding: Finding
    turns: pd.DataFrame | None


def side_by_side(
    stand: Sequence[SetAtLastCheckpoint], findings: Sequence[Finding], turns: pd.DataFrame | None = None
) -> list[SideBySide]:
    """Compare each set that both protocols measured, at the last checkpoint and along the curve.

    Args:
        stand: of both protocols, as `jtrace.report.standings.standings` returns them.
        findings: one of each of them.
        turns: as in the run directory's dynamics; None where there are none.
    """
    paper, sound = (
        {(one.model, one.dataset): (one, finding) for one, finding in zip(stand, findings, strict=True)
         if one.protocol == protocol}
        for protocol in ("paper", "sound")
    )  # fmt: skip
    pairs = [Pair(*paper[key], *sound[key], turns) for key in paper if key in sound]
    return [
        SideBySide(
            pair.paper.model,
            pair.paper.dataset,
            tuple(comparison for compare in COMPARISONS for comparison in compare(pair)),
        )
        for pair in pairs
    ]


def _best_layer(pair: Pair) -> Iterator[Comparison]:
    paper, sound = pair.paper.layer, pair.sound.layer
    best, at_paper = pair.sound_finding.accuracy, pair.sound.estimate("probe_accuracy", paper)
    if at_paper is None:
        return
    inside = best.ci_low <= at_paper.value <= best.ci_high
    side = "within its interval: hardly told apart" if inside else "outside its interval"
    yield Comparison(
        "best layer",
        f"{paper} ({number(pair.paper_finding.last)})",
        f"{sound} ({number(best.value)}, {spread(best)})",
        paper == sound,
        "" if paper == sound else f"sound has {number(at_paper.value)} at layer {paper}, {side}",
    )


def _accuracy(pair: Pair) -> Iterator[Comparison]:
    """At the layer that `paper` would report."""
    layer, value, rows = pair.paper.layer, pair.paper_finding.last, pair.paper.n
    sound = pair.sound.estimate("probe_accuracy", layer)
    if sound is None or not sound.ci_low <= sound.ci_high:
        return
    agrees, reason = sound.ci_low <= value <= sound.ci_high, ""
    if not agrees:
        above = value > sound.ci_high
        leak = ", as where related rows are on both sides of the published split" if above else ""
        luck = f"more than luck with the test rows explains{leak}"
        cause = luck if _beyond_luck(value, rows, sound) else "luck with the test rows may explain it"
        reason = f"paper {'above' if above else 'below'} sound's interval; {cause}"
    numbers = f"{number(value)} (luck ±{_luck(value, rows):.2f}, {rows} test rows)"
    yield Comparison(f"accuracy, layer {layer}", numbers, with_spread(sound), agrees, reason)


def _baselines(pair: Pair) -> Iterator[Comparison]:
    """Whether the probe is above what needs no training."""
    paper, sound = pair.paper_finding, pair.sound_finding
    if not sound.paired:
        return
    text = f"text only {number(paper.text)}, " if paper.text is not None else ""
    gains = {PAIRED[metric]: gain for metric, gain in sound.paired.items()}
    if sound.chosen_gain is not None:
        gains["all of these with the layer chosen on rows apart"] = sound.chosen_gain
    failed = [name for name, gain in gains.items() if not gain.ci_low > 0]
    failed += ["chance"] * (not sound.accuracy.ci_low > sound.chance)
    if paper.clear and sound.clear:
        reason = "above under both"
    elif sound.clear:
        reason = "above under sound alone"
    else:
        reason = (
            "above under paper alone" if paper.clear else "above under neither"
        ) + f"; sound: not above {listed(failed)}"
    yield Comparison(
        "probe above its baselines",
        f"{number(paper.last)} against {text}chance {number(paper.chance)}",
        ", ".join(f"{with_spread(gain)} above {name}" for name, gain in gains.items())
        + f"; {with_spread(sound.accuracy)} against chance {number(sound.chance)}",
        paper.clear == sound.clear,
        reason,
    )


def _null(pair: Pair) -> Iterator[Comparison]:
    """Information at the layer that `paper` would report, against what permuted rows give."""
    layer = pair.paper.layer
    for metric, name in INFORMATION.items():
        value = pair.paper.value(metric)
        estimate, null, p = (pair.sound.estimate(f"{metric}{part}", layer) for part in ("", "_null", "_p"))
        if value is None or estimate is None or null is None or p is None:
            continue
        above = p.value <= LEVEL
        yield Comparison(
            f"{name}, layer {layer}",
            f"{number(value)}, no null",
            f"{number(estimate.value)}, null {spread(null)}, p = {p.value:.3f}",
            above,
            "above its null" if above else "no more than rows that have nothing to do with each other",
        )


def _turn(pair: Pair) -> Iterator[Comparison]:
    """Whether I(X;T) rises and then falls, each protocol at its own best layer."""
    paper, sound = _row(pair.turns, pair.paper, "mi_xt"), _row(pair.turns, pair.sound, "mi_xt_excess")
    if paper is None or sound is None or pair.paper.curve is None or pair.sound.curve is None:
        return
    turned = paper["p"] <= LEVEL, sound["p"] <= LEVEL
    apart = all(turned) and _apart(paper, sound)
    yield Comparison(
        "turn of I(X;T), under sound above its null",
        _peak(pair.paper.curve, paper),
        _peak(pair.sound.curve, sound),
        turned[0] == turned[1] and not apart,
        {
            (True, True): "at different places" if apart else "rises and then falls under both",
            (True, False): "clear under paper alone",
            (False, True): "clear under sound alone",
            (False, False): "no turn that noise would not make as well",
        }[turned],
    )


def _peak(curve: Trajectory, row: pd.Series) -> str:
    between = span_text(curve, row["ci_low"], row["ci_high"])
    return f"{at_text(curve, row['at'])} ({between}), fall {number(row['fall'])}, p = {row['p']:.3f}, " \
           f"layer {row['layer']}"  # fmt: skip


def _along(pair: Pair) -> Iterator[Comparison]:
    """At how many checkpoints the protocols' accuracies differ, at the layer that `paper` would report."""
    layer = pair.paper.layer
    paper, sound = (
        rows.set_index(rows["checkpoint"].astype(str))
        for rows in (one.over_training("probe_accuracy", layer) for one in (pair.paper, pair.sound))
    )
    both = paper[["value", "n"]].join(sound[["value", "ci_low", "ci_high"]].add_suffix("_sound"), how="inner")
    both = both.dropna(subset=["ci_low_sound", "ci_high_sound"])
    if len(both) < 2:
        return
    numbers = both[["value", "n", "value_sound", "ci_low_sound", "ci_high_sound"]].to_numpy(float)
    far = sum(_beyond_luck(value, rows, Estimate(*estimate)) for value, rows, *estimate in numbers)
    yield Comparison(
        f"accuracy over {len(both)} checkpoints, layer {layer}",
        f"{both['value'].mean():.3f} on average",
        f"{both['value_sound'].mean():.3f} on average",
        not far,
        f"beyond luck at {far or 'none'}",
    )


def _luck(value: float, rows: float) -> float:
    """Half the 95 % interval of an accuracy on independent rows (normal approximation)."""
    return Z95 * float(np.sqrt(value * (1 - value) / rows))


def _beyond_luck(value: float, rows: float, sound: Estimate) -> bool:
    """Whether an accuracy of `paper` is further from `sound`'s than both intervals together explain."""
    half = (sound.ci_high - sound.ci_low) / 2
    return bool(abs(value - sound.value) > np.hypot(_luck(value, rows), half))


def _row(table: pd.DataFrame | None, standing: SetAtLastCheckpoint, metric: str) -> pd.Series | None:
    if table is None:
        return None
    rows = standing.part_of(table)
    rows = rows[rows["metric"] == metric]
    return None if rows.empty else rows.iloc[0]


def _apart(one: pd.Series, other: pd.Series) -> bool:
    """Whether the intervals of two places have nothing in common."""
    return bool(one["ci_low"] > other["ci_high"] or other["ci_low"] > one["ci_high"])


COMPARISONS = (_best_layer, _accuracy, _baselines, _null, _turn, _along)
