"""Where the protocols `paper` and `sound` disagree of a set, and where they agree, in words that rest on numbers.

Each comparison yields a remark: whether the two agree, and what it rests on. Nothing is said where a number is missing.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from jtrace.report.figures.style import at_text, span_text
from jtrace.report.findings import LEVEL, PAIRED, Finding, findings
from jtrace.report.format import listed, number, spread, with_spread
from jtrace.report.standings import SetAtLastCheckpoint, standings
from jtrace.stats.bootstrap import Z95
from jtrace.steering.results import Estimate

INFORMATION = {"mi_xt": "I(X;T)", "mi_yt": "I(Y;T)"}


@dataclass(frozen=True)
class Remark:
    """One comparison of the protocols, in a sentence."""

    agrees: bool
    words: str


@dataclass(frozen=True)
class SideBySide:
    """What the two protocols say of one set of one model.

    Attributes:
        model: empty for a curve of models.
        called: the set's dimension, or the set.
    """

    model: str
    dataset: str
    called: str
    remarks: tuple[Remark, ...]

    @property
    def disagreements(self) -> list[str]:
        return [remark.words for remark in self.remarks if not remark.agrees]

    @property
    def agreement(self) -> str:
        """One sentence; empty where the two agree in nothing that is known."""
        words = [remark.words.rstrip(".") for remark in self.remarks if remark.agrees]
        return f"They agree: {'; '.join(words)}." if words else ""


@dataclass(frozen=True, eq=False)
class Pair:
    """One set of one model under both protocols, with the table of turns."""

    paper: SetAtLastCheckpoint
    sound: SetAtLastCheckpoint
    paper_finding: Finding
    sound_finding: Finding
    turns: pd.DataFrame | None


def side_by_side(metrics: pd.DataFrame, turns: pd.DataFrame | None = None) -> list[SideBySide]:
    """Each set that both protocols measured, at the last checkpoint and along the curve.

    Args:
        metrics: of both protocols, columns as in the run directory's tables.
        turns: as in the run directory's dynamics; None where there are none.
    """
    return [
        SideBySide(
            pair.paper.model,
            pair.paper.dataset,
            pair.paper.called,
            tuple(remark for compare in COMPARISONS for remark in compare(pair)),
        )
        for pair in _pairs(metrics, turns)
    ]


def _pairs(metrics: pd.DataFrame, turns: pd.DataFrame | None) -> Iterator[Pair]:
    by_protocol = {}
    for protocol in ("paper", "sound"):
        rows = metrics[metrics["protocol"] == protocol]
        found = zip(standings(rows), findings(rows), strict=True)
        by_protocol[protocol] = {(standing.model, standing.dataset): (standing, finding) for standing, finding in found}
    for key, (paper, paper_finding) in by_protocol["paper"].items():
        if key in by_protocol["sound"]:
            sound, sound_finding = by_protocol["sound"][key]
            yield Pair(paper, sound, paper_finding, sound_finding, turns)


def _best_layer(pair: Pair) -> Iterator[Remark]:
    paper, sound = pair.paper.layer, pair.sound.layer
    if paper == sound:
        yield Remark(True, f"the best layer is {paper} under both")
        return
    best, there = pair.sound_finding.accuracy, pair.sound.estimate("probe_accuracy", paper)
    if there is None:
        return
    inside = best.ci_low <= there.value <= best.ci_high
    verdict = "within that, so the two are hardly told apart" if inside else "outside that interval"
    yield Remark(
        False,
        f"The best layer is {paper} under paper ({number(pair.paper_finding.last)}) and {sound} under sound "
        f"({number(best.value)}, {spread(best)}); at layer {paper} sound has {number(there.value)}, {verdict}.",
    )


def _accuracy(pair: Pair) -> Iterator[Remark]:
    """At the layer that `paper` would report."""
    layer, value, rows = pair.paper.layer, pair.paper_finding.last, pair.paper.n
    sound = pair.sound.estimate("probe_accuracy", layer)
    if sound is None or not sound.ci_low <= sound.ci_high:
        return
    if sound.ci_low <= value <= sound.ci_high:
        yield Remark(True, f"paper's accuracy {number(value)} lies within sound's interval {spread(sound)} "
                           f"(layer {layer})")  # fmt: skip
        return
    side = "above" if value > sound.ci_high else "below"
    leak = ": related rows on both sides of the published split would do that" if side == "above" else ""
    cause = (
        f"more than luck with {rows} test rows explains (±{_luck(value, rows):.2f}){leak}"
        if _beyond_luck(value, rows, sound)
        else f"which luck with {rows} test rows may explain (±{_luck(value, rows):.2f})"
    )
    yield Remark(
        False,
        f"At layer {layer} paper's accuracy {number(value)} lies {side} sound's interval, {with_spread(sound)}, "
        f"{cause}.",
    )


def _verdict(pair: Pair) -> Iterator[Remark]:
    """Whether the probe is above what needs no training."""
    paper, sound = pair.paper_finding, pair.sound_finding
    if not sound.paired:
        return
    lines = f"text only {number(paper.text)}, " if paper.text is not None else ""
    called = f"{number(paper.last)} against {lines}chance {number(paper.chance)}"
    failed = [
        f"{PAIRED[metric]} (by {number(found.value)}, {spread(found)})"
        for metric, found in sound.paired.items()
        if not found.ci_low > 0
    ]
    if not sound.accuracy.ci_low > sound.chance:
        failed.append(f"chance ({number(sound.chance)})")
    if (gain := sound.chosen_gain) is not None and not gain.ci_low > 0:
        failed.append(f"all of these with the layer chosen on rows apart (by {number(gain.value)}, {spread(gain)})")
    passed = ", ".join(f"{PAIRED[metric]} by {with_spread(found)}" for metric, found in sound.paired.items())
    if paper.clear and failed:
        yield Remark(
            False,
            f"Paper calls the probe clearly above its baselines ({called}); under sound it is not clearly above "
            f"{listed(failed)}.",
        )
    elif sound.clear and not paper.clear:
        yield Remark(
            False,
            f"Paper does not find the probe clearly above its baselines ({called}); sound does: above {passed}.",
        )
    elif sound.clear:
        yield Remark(
            True,
            f"the probe is above its baselines under both (paper {called}; sound above {passed.partition(', ')[0]})",
        )
    else:
        yield Remark(
            True,
            f"the probe is not clearly above its baselines under either (paper {called}; sound not above "
            f"{listed(failed)})",
        )


def _null(pair: Pair) -> Iterator[Remark]:
    """Information at the layer that `paper` would report, against what permuted rows give."""
    layer = pair.paper.layer
    for metric, name in INFORMATION.items():
        value = pair.paper.value(metric)
        estimate, null, p = (pair.sound.estimate(f"{metric}{part}", layer) for part in ("", "_null", "_p"))
        if value is None or estimate is None or null is None or p is None:
            continue
        numbers = (
            f"{number(estimate.value)} under sound, where permuted rows give {spread(null)} (p = {p.value:.3f}; "
            f"layer {layer})"
        )
        if p.value > LEVEL:
            yield Remark(
                False,
                f"Paper gives {name} as {number(value)} with nothing to hold it against; it is {numbers}: no more "
                "than rows that have nothing to do with each other.",
            )
        else:
            yield Remark(
                True, f"{name} is above its null ({number(estimate.value)} under sound, the null {spread(null)})"
            )


def _turn(pair: Pair) -> Iterator[Remark]:
    """Whether I(X;T) rises and then falls, each protocol at its own best layer."""
    paper, sound = _row(pair.turns, pair.paper, "mi_xt"), _row(pair.turns, pair.sound, "mi_xt_excess")
    if paper is None or sound is None or pair.paper.curve is None or pair.sound.curve is None:
        return
    words = [
        f"paper peak at {at_text(curve, row['at'])} ({span_text(curve, row['ci_low'], row['ci_high'])}), "
        f"fall {number(row['fall'])}, p = {row['p']:.3f}, layer {row['layer']}"
        for curve, row in ((pair.paper.curve, paper), (pair.sound.curve, sound))
    ]
    of_paper, of_sound = words[0], words[1].replace("paper peak", "sound peak")
    turned = paper["p"] <= LEVEL, sound["p"] <= LEVEL
    both = f"({of_paper}; {of_sound})"
    if turned == (True, False):
        yield Remark(False, f"I(X;T) clearly turns under paper, not clearly above its null under sound {both}.")
    elif turned == (False, True):
        yield Remark(False, f"I(X;T) above its null clearly turns under sound, not clearly under paper {both}.")
    elif turned == (True, True) and _apart(paper, sound):
        yield Remark(False, f"I(X;T) turns at different places {both}.")
    elif turned == (True, True):
        yield Remark(True, f"I(X;T) rises and then falls under both {both}")
    else:
        yield Remark(True, f"I(X;T) has no turn that noise would not make as well, under either {both}")


def _along(pair: Pair) -> Iterator[Remark]:
    """At how many checkpoints the protocols' accuracies differ, at the layer that `paper` would report."""
    layer = pair.paper.layer
    paper, sound = (one.over_training("probe_accuracy", layer) for one in (pair.paper, pair.sound))
    of_paper, of_sound = (one.set_index(one["checkpoint"].astype(str)) for one in (paper, sound))
    both = of_paper[["value", "n"]].join(of_sound[["value", "ci_low", "ci_high"]].add_suffix("_sound"), how="inner")
    both = both.dropna(subset=["ci_low_sound", "ci_high_sound"])
    if len(both) < 2:
        return
    far = sum(
        _beyond_luck(value, int(rows), Estimate(*estimate))
        for value, rows, *estimate in both[["value", "n", "value_sound", "ci_low_sound", "ci_high_sound"]].to_numpy(
            float
        )
    )
    mean = float((both["value"] - both["value_sound"]).mean())
    side = "higher" if mean >= 0 else "lower"
    where = f"of {len(both)} checkpoints (layer {layer}; on average paper is {abs(mean):.3f} {side})"
    if far:
        yield Remark(False, f"Along the curve the accuracies differ by more than luck explains at {far} {where}.")
    else:
        yield Remark(True, f"along the curve the accuracies differ by more than luck explains at none {where}")


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


COMPARISONS = (_best_layer, _accuracy, _verdict, _null, _turn, _along)
