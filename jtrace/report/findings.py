"""The findings of a run, in numbers and words: each set's best probe against what needs no model, its information."""

from dataclasses import dataclass
from math import isfinite, isnan

import numpy as np
import pandas as pd

from jtrace.dynamics.tables import CHOSEN
from jtrace.dynamics.trajectory import Trajectory
from jtrace.probing.reversed_probes import is_reversed
from jtrace.report.figures.style import at_text, place_text, span_text
from jtrace.report.format import listed, number, spread, with_spread
from jtrace.report.standings import SetAtLastCheckpoint, standings
from jtrace.stats.quantiles import Z95
from jtrace.steering.results import Estimate

# What a sound probe has to leave behind, by the paired difference that says so.
PAIRED = {
    "gain_over_text": "text only",
    "gain_over_random_init": "random initialisation",
}
LINES = {
    "text_accuracy": "text only",
    "majority_accuracy": "chance",
    "random_init_accuracy": "random initialisation",
}
LEVEL = 0.05  # of p-values
REVERSED = (
    "That is far below one half: it has learnt something that points the wrong way on other rows, as where related "
    "rows (twins) have opposite labels."
)
COURSES = ("mi_xt", "mi_yt", "mi_xt_excess", "mi_yt_excess")


@dataclass(frozen=True)
class Course:
    """A metric over a model's checkpoints: at the first, where it is highest, at the last."""

    first: float
    peak: float
    peak_at: str
    last: float
    peak_is_first: bool
    peak_is_last: bool

    def in_words(self, name: str) -> str:
        """Tell the course as `I(X;T) is 4.02 at first, highest at step 64 with 12.1, and 5.06 at the end`."""
        first, last = number(self.first), number(self.last)
        if self.peak_is_first or self.peak_is_last:
            highest = "the start" if self.peak_is_first else "the end"
            return f"{name} goes from {first} to {last} and is highest at {highest}"
        highest = f"highest at {self.peak_at} with {number(self.peak)}"
        return f"{name} is {first} at first, {highest}, and {last} at the end"


@dataclass(frozen=True)
class Finding:
    """A set's probe at one layer of a model: the layer of the highest accuracy at the last checkpoint.

    Attributes:
        model: as in the tables; the checkpoint's name where there is but one.
        first_at, last_at: the checkpoints in words; `first_at` is empty where there is but one.
        first: probe accuracy at the first checkpoint.
        accuracy: at the last one; without an interval under `paper`.
        text: accuracy of the text-only classifier; None where it was not measured.
        chance: accuracy of always guessing the training rows' larger class, at least a half.
        n: held-out rows.
        courses: by metric, over checkpoints; empty where there is but one.
        paired: by the names in `PAIRED`, differences of accuracy on the same bootstrap draws; empty under `paper`.
        chosen: the layer most often chosen on rows apart, and the accuracy of layers so chosen; `sound` alone.
        chosen_gain: of that accuracy over all that needs no training, random params at their own best layer among it.
        calibration: error of the probe's probabilities, how much more it is than a calibrated probe's, and how often
            such a probe has so much (p); `sound` alone.
        groups: effective number of groups of the held-out rows; None where it was not measured.
        onset: from where on the accuracy stays above which line, in words; empty where that is not known.
    """

    model: str
    dataset: str
    dimension: str
    layer: int
    first_at: str
    last_at: str
    first: float
    accuracy: Estimate
    text: float | None
    chance: float
    n: int
    courses: dict[str, Course]
    paired: dict[str, Estimate]
    chosen: tuple[int, Estimate] | None
    chosen_gain: Estimate | None
    calibration: tuple[float, float, float] | None
    groups: float | None
    onset: str

    @property
    def called(self) -> str:
        """The dimension, or the set where none is named."""
        return self.dimension or self.dataset

    @property
    def last(self) -> float:
        """Probe accuracy at the last checkpoint."""
        return self.accuracy.value

    @property
    def gain(self) -> float:
        """Accuracy above the better of text-only and chance."""
        return self.last - self._line

    @property
    def margin(self) -> float:
        """Half the 95 % interval of `gain`.

        That of the paired difference from text only where it is known; else as if both were measured on rows of their
        own (normal approximation).
        """
        paired = self.paired.get("gain_over_text")
        if paired is not None and isfinite(paired.ci_high - paired.ci_low):
            return (paired.ci_high - paired.ci_low) / 2
        return Z95 * float(np.sqrt(sum(p * (1 - p) for p in (self.last, self._line)) / self.n))

    @property
    def clear(self) -> bool:
        """True where the probe finds more than what needs no training, beyond the noise of the held-out rows.

        Where there are paired differences, all their intervals lie above 0, that without the luck of the best layer
        too, and the accuracy's own above chance.
        """
        if self.chosen_gain is not None and not self.chosen_gain.ci_low > 0:
            return False
        if self.paired:
            return all(gain.ci_low > 0 for gain in self.paired.values()) and self.accuracy.ci_low > self.chance
        return self.gain > self.margin

    @property
    def verdict(self) -> str:
        """The accuracy against what needs no training, in a word or two."""
        return "far below one half" if self.is_reversed else self._standing

    @property
    def _standing(self) -> str:
        if self.clear:
            return "clearly above"
        below = any(gain.ci_high < 0 for gain in self.paired.values()) if self.paired else self.gain < -self.margin
        return "below" if below else "not clearly above"

    @property
    def _line(self) -> float:
        return max(self.chance, self.text if self.text is not None else 0.0)

    def in_words(self) -> str:
        """Accuracy at the first and last checkpoint, and what it is worth."""
        start = f"{self.first:.2f} at {self.first_at}, " if self.first_at else ""
        value = f"{self.last:.2f}" if isnan(self.accuracy.ci_low) else with_spread(self.accuracy)
        end = f"{value} at {self.last_at}" if self.first_at else value
        rows = "held-out rows" if self.paired else "test rows"
        where = f"{start}{end} (layer {self.layer}, {self.n} {rows})"
        if not self.paired:
            return " ".join([f"{where}: {self._against_levels()}.", *[REVERSED] * self.is_reversed])
        words = [f"{where}: {', '.join(self._against_pairs())}."]
        if self.chosen is not None:
            layer, accuracy = self.chosen
            gain = self.chosen_gain
            by = "" if gain is None else f", by {number(gain.value)} ({spread(gain)}) above the best of all these lines"
            words.append(f"With the layer chosen on rows apart (most often {layer}) {with_spread(accuracy)}{by}.")
        if self.calibration is not None:
            error, excess, p = self.calibration
            more = f"{number(excess)} more" if p <= LEVEL else "no more"
            off = f"Its probabilities are off by {error:.2f} on average"
            words.append(f"{off}, {more} than a calibrated probe's (p = {p:.3f}).")
        return " ".join(words + [self.onset] * bool(self.onset) + [REVERSED] * self.is_reversed)

    @property
    def is_reversed(self) -> bool:
        """True where the probe is wrong more often than a coin, beyond chance."""
        return is_reversed(self.last, self.accuracy.ci_high, self.n)

    def _against_levels(self) -> str:
        chance = f"chance ({self.chance:.2f})"
        if self.text is None:
            against = chance
        else:
            text = f"the text-only classifier ({self.text:.2f})"
            against = f"{text} and {chance}" if self.clear else text if self.text >= self.chance else chance
        return f"{self._standing} {against}"

    def _against_pairs(self) -> list[str]:
        words = []
        for metric, gain in self.paired.items():
            if gain.ci_low > 0:
                words.append(f"above {PAIRED[metric]} by {with_spread(gain)}")
            elif gain.ci_high < 0:
                loss = Estimate(-gain.value, -gain.ci_high, -gain.ci_low)
                words.append(f"below {PAIRED[metric]} by {with_spread(loss)}")
            else:
                words.append(f"not clearly above {PAIRED[metric]} (by {number(gain.value)}, {spread(gain)})")
        if not self.accuracy.ci_low > self.chance:
            words.append(f"not clearly above chance ({self.chance:.2f})")
        return words


def findings(metrics: pd.DataFrame, onsets: pd.DataFrame | None = None) -> list[Finding]:
    """Find what each set came to: for each model's curve, then for each model that was traced once.

    Args:
        metrics: of one protocol, columns as in the run directory's tables.
        onsets: as in the run directory's dynamics; None where there are none.
    """
    return [finding(standing, onsets) for standing in standings(metrics)]


def clear_of(several: list[Finding]) -> str:
    """Name the lines that every clear finding is above."""
    measured = {metric for finding in several for metric in finding.paired}
    if measured:
        return "all of " + listed([*(name for metric, name in PAIRED.items() if metric in measured), "chance"])
    return "the text-only classifier and chance" if all(f.text is not None for f in several) else "chance"


def finding(standing: SetAtLastCheckpoint, onsets: pd.DataFrame | None = None) -> Finding:
    """Find what one set came to; `onsets` as of `findings`."""
    curve = standing.curve
    probes = standing.over_training("probe_accuracy")
    first = probes.iloc[0]
    several = curve is not None and len(probes) > 1
    accuracy = standing.estimate("probe_accuracy")
    chosen_gain = standing.only("chosen_layer_gain")
    assert accuracy is not None  # a standing is where it was measured
    paired = {metric: gain for metric in PAIRED if (gain := standing.estimate(metric)) is not None}
    return Finding(
        model=standing.model,
        dataset=standing.dataset,
        dimension=standing.dimension,
        layer=standing.layer,
        first_at=place_text(curve, first["checkpoint"]) if curve and several else "",
        last_at=place_text(curve, standing.checkpoint) if curve else standing.checkpoint,
        first=float(first["value"]),
        accuracy=accuracy,
        text=standing.value("text_accuracy"),
        chance=standing.chance,
        n=standing.n,
        courses=_courses(standing, curve) if curve and several else {},
        paired=paired,
        chosen=standing.only("chosen_layer_accuracy"),
        chosen_gain=chosen_gain[1] if chosen_gain else None,
        calibration=_calibration(standing),
        groups=standing.value("effective_groups"),
        onset=_onset(standing, curve, onsets) if curve and onsets is not None else "",
    )


def _calibration(standing: SetAtLastCheckpoint) -> tuple[float, float, float] | None:
    error, excess, p = (standing.value(f"probe_ece{part}") for part in ("", "_excess", "_p"))
    return None if error is None or excess is None or p is None else (error, excess, p)


def _courses(standing: SetAtLastCheckpoint, curve: Trajectory) -> dict[str, Course]:
    courses = {}
    for metric in COURSES:
        line = standing.over_training(metric)
        if len(line) < 2 or len(standing.over_training(f"{metric}_excess")) > 1:
            continue
        values = line["value"].to_numpy(float)
        peak = int(values.argmax())
        at = place_text(curve, line["checkpoint"].iloc[peak])
        courses[metric] = Course(
            values[0], values[peak], at, values[-1], peak == 0, peak == len(values) - 1 and peak > 0
        )
    return courses


def _onset(standing: SetAtLastCheckpoint, curve: Trajectory, onsets: pd.DataFrame) -> str:
    """Of the gain where layers are chosen on rows apart; nothing is said of one that is not clear."""
    rows = standing.of_set(onsets)
    rows = rows[(rows["metric"] == CHOSEN) & (rows["checkpoint"] != "")]
    last = standing.only(CHOSEN)
    if rows.empty or (last is not None and not last[1].ci_low > 0):
        return ""
    row = rows.iloc[0]
    at, span = at_text(curve, float(row["at"])), span_text(curve, float(row["ci_low"]), float(row["ci_high"]))
    between = "" if span == at else f" ({span})"
    return f"With layers chosen on rows apart it stays above {line_text(row['line'])} from {at} on{between}."


def line_text(line: str) -> str:
    """Name the line that an onset is held against, metrics by the names of their baselines."""
    for metric, name in LINES.items():
        line = line.replace(metric, name)
    return line
