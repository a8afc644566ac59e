"""What a run found, in numbers and words: each set's best probe against what needs no model, and its information."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from jtrace.dynamics import Trajectory, best_layer, trajectories, with_checkpoints
from jtrace.figures.style import place_text

Z95 = 1.96


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
        """As `I(X;T) is 4.02 at first, highest at step 64 with 12.1, and 5.06 at the end`."""
        if self.peak_is_first or self.peak_is_last:
            highest = "the start" if self.peak_is_first else "the end"
            return f"{name} goes from {self.first:.2f} to {self.last:.2f} and is highest at {highest}"
        highest = f"highest at {self.peak_at} with {self.peak:.2f}"
        return f"{name} is {self.first:.2f} at first, {highest}, and {self.last:.2f} at the end"


@dataclass(frozen=True)
class Finding:
    """A set's probe at one layer of a model: the layer of the highest accuracy at the last checkpoint.

    Attributes:
        model: as in the tables; the checkpoint's name where there is but one.
        first_at, last_at: the checkpoints in words; `first_at` is empty where there is but one.
        first, last: probe accuracy there.
        text: accuracy of the text-only classifier; None where it was not measured.
        chance: accuracy of always guessing the training rows' larger class; a half where it was not measured.
        n: test rows.
        courses: by metric, over checkpoints; empty where there is but one.
    """

    model: str
    dataset: str
    dimension: str
    layer: int
    first_at: str
    last_at: str
    first: float
    last: float
    text: float | None
    chance: float
    n: int
    courses: dict[str, Course]

    @property
    def gain(self) -> float:
        """Accuracy above the better of text-only and chance."""
        return self.last - self._line

    @property
    def margin(self) -> float:
        """Half the 95 % interval of `gain`, as if both were measured on rows of their own (normal approximation)."""
        return Z95 * float(np.sqrt(sum(p * (1 - p) for p in (self.last, self._line)) / self.n))

    @property
    def clear(self) -> bool:
        """Whether the probe finds more than chance and the bare texts give, beyond the noise of the test rows."""
        return self.gain > self.margin

    @property
    def _line(self) -> float:
        return max(self.chance, self.text if self.text is not None else 0.0)

    def in_words(self) -> str:
        """Accuracy at the first and last checkpoint, and what it is worth."""
        start = f"{self.first:.2f} at {self.first_at}, " if self.first_at else ""
        chance = f"chance ({self.chance:.2f})"
        if self.text is None:
            against = chance
        else:
            text = f"the text-only classifier ({self.text:.2f})"
            against = f"{text} and {chance}" if self.clear else text if self.text >= self.chance else chance
        verdict = "clearly above" if self.clear else "below" if self.gain < -self.margin else "not clearly above"
        end = f"{self.last:.2f} at {self.last_at}" if self.first_at else f"{self.last:.2f}"
        return f"{start}{end} (layer {self.layer}, {self.n} test rows): {verdict} {against}."


def findings(metrics: pd.DataFrame) -> list[Finding]:
    """A finding per set for each model's curve, then for each model that was traced once.

    Args:
        metrics: of one protocol, columns as in the run directory's tables.
    """
    curves = trajectories(metrics)
    found = [finding for curve in curves for finding in _of_curve(curve)]
    ordered = with_checkpoints(metrics)
    in_curves = {name for curve in curves for name in (*curve.checkpoints, *curve.left_out)}
    for name in ordered["checkpoint"].cat.categories:
        if name not in in_curves:
            rows = ordered[ordered["checkpoint"] == name]
            found += filter(None, (_finding(rows, name, dataset) for dataset in dict.fromkeys(rows["dataset"])))
    return found


def _of_curve(curve: Trajectory) -> list[Finding]:
    found = []
    for dataset in dict.fromkeys(curve.rows["dataset"]):
        finding = _finding(curve.rows, curve.model, dataset, curve)
        if finding is not None:
            found.append(finding)
    return found


def _finding(rows: pd.DataFrame, model: str, dataset: str, curve: Trajectory | None = None) -> Finding | None:
    layer = best_layer(rows, dataset)
    if layer is None:
        return None
    at_layer = rows[(rows["dataset"] == dataset) & (rows["layer"] == layer)].sort_values("checkpoint")
    probes = at_layer[at_layer["metric"] == "probe_accuracy"]
    levels = at_layer.groupby("metric")["value"].median()
    first, last = probes.iloc[0], probes.iloc[-1]
    several = curve is not None and len(probes) > 1
    return Finding(
        model=model,
        dataset=dataset,
        dimension=str(first["dimension"]),
        layer=layer,
        first_at=place_text(curve, first["checkpoint"]) if curve and several else "",
        last_at=place_text(curve, last["checkpoint"]) if curve else str(last["checkpoint"]),
        first=float(first["value"]),
        last=float(last["value"]),
        text=float(levels["text_accuracy"]) if "text_accuracy" in levels else None,
        # Guessing a coin is right on one half, however the majority of the training rows does.
        chance=max(0.5, float(levels.get("majority_accuracy", 0.5))),
        n=int(last["n"]),
        courses=_courses(at_layer, curve) if curve and several else {},
    )


def _courses(rows: pd.DataFrame, curve: Trajectory) -> dict[str, Course]:
    courses = {}
    for metric in ("mi_xt", "mi_yt"):
        line = rows[rows["metric"] == metric]
        if len(line) > 1:
            values = line["value"].to_numpy(float)
            peak = int(values.argmax())
            at = place_text(curve, line["checkpoint"].iloc[peak])
            courses[metric] = Course(
                values[0], values[peak], at, values[-1], peak == 0, peak == len(values) - 1 and peak > 0
            )
    return courses
