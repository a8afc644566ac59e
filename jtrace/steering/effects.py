"""Effects of steering: each vector's setting on each task, its cost, and the source that steers best."""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from jtrace.checkpoints.names import in_order
from jtrace.evaluation.task_facts import LOWER_IS_BETTER, better_by, dimension_of, is_trust, main_metric
from jtrace.runs.names import CONTROLS
from jtrace.runs.steering_files import CHOSEN, DIFFERENCE, VALIDATION
from jtrace.steering.results import Estimate, SteeredRows

GAINS = ("task", "metric", "source", "layer", "strength", "gain", "apart", "perplexity_ratio", "capability_change")
UNSTEERED, OWN, BEST, RANDOM = "unsteered", "its own vector", "best other checkpoint's vector", "random control"


NO_CHANGE = Estimate(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Effect:
    """Change that one vector made to a task's main metric at one layer and strength.

    Under the protocol `sound` the setting was chosen on validation rows and the values are of the other rows; under
    `paper` it is the best of all settings on the very rows that are reported.

    Attributes:
        paired: the difference from the unsteered model on the same items, where it was measured.
        merit: the gain on the rows that the setting was chosen on; −∞ where it is not known.
        controls: by kind, the metric with a control vector at its own best setting under `paper`, as the vector's is,
            and at its own chosen one under `sound`; of several random ones the best.
        settings: how many settings the task was tried with: vectors × layers × strengths, of vectors of its dimension
            where there are any and this is one, and of all others else.
        tied: how many of them are as good as this one on the rows that it was chosen on.
    """

    vector: SteeredRows
    task: str
    metric: str
    layer: int
    strength: float
    unsteered: Estimate
    steered: Estimate
    paired: Estimate | None
    merit: float
    controls: Mapping[str, Estimate]
    settings: int = 1
    tied: int = 0

    @property
    def comparisons(self) -> int:
        """Number of settings that its value is the best of, on the very rows that it is measured on."""
        return 1 if self.vector.protocol == "sound" else self.settings

    @property
    def gain(self) -> float:
        """Positive where steering made the metric better, whichever way that is."""
        return better_by(self.metric, self.steered.value, self.unsteered.value)

    @property
    def apart(self) -> bool | None:
        """Tell whether the paired difference's interval leaves 0 out, or else whether the two values' are apart.

        Intervals are those of `comparisons` at once. None where they are not known.
        """
        return _apart(self.paired, self.steered, self.unsteered, self.comparisons)

    @property
    def improves(self) -> bool:
        """Tell whether it is better beyond the intervals."""
        return self.gain > 0 and bool(self.apart)

    @property
    def perplexity_ratio(self) -> float | None:
        return self.vector.perplexity_ratio(self.layer, self.strength)

    @property
    def capability_change(self) -> float | None:
        return self.vector.capability_change(self.layer, self.strength)

    @property
    def unparsable(self) -> Estimate | None:
        """Share of the task's answers that cannot be read."""
        return self.vector.estimate(self.task, "unparsable", self.layer, self.strength)

    @property
    def judged(self) -> Estimate | None:
        """Share of the task's completions that can be judged at all."""
        return self.vector.estimate(self.task, "judged", self.layer, self.strength)

    def control_gain(self, kind: str) -> float | None:
        """Gain of a control."""
        control = self.controls.get(kind)
        return None if control is None else better_by(self.metric, control.value, self.unsteered.value)


def effects(vectors: Sequence[SteeredRows]) -> list[Effect]:
    """An effect per vector and task of trustworthiness, of controls too; in the table's order.

    Args:
        vectors: as `jtrace.steering.results.vectors` returns them. What has no row of strength 0 to compare with,
            or under `sound` no chosen setting, has no effect.
    """
    every = []
    for vector in vectors:
        beside = [other for other in vectors if not vector.is_control and other.controls(vector)]
        every += [effect for task in filter(is_trust, vector.tasks) if (effect := _effect(vector, task, beside))]
    settings = Counter[Hashable]()
    as_good = Counter[Hashable]()
    for effect in every:
        settings[_comparable(effect)] += effect.settings
        as_good[_comparable(effect), effect.merit] += 1 + effect.tied
    return [
        replace(effect, settings=settings[key], tied=as_good[key, effect.merit] - 1)
        for effect in every
        for key in (_comparable(effect),)
    ]


def strongest(candidates: Iterable[Effect]) -> Effect | None:
    """The effect of the highest merit, the first of equals; None of none."""
    return max(candidates, key=lambda effect: effect.merit, default=None)


def by_task(every: Iterable[Effect]) -> dict[tuple[str, str, str, str], list[Effect]]:
    """Effects by target, protocol, task and metric; of vectors made for the task's dimension where there are any."""
    groups: dict[tuple[str, str, str, str], list[Effect]] = {}
    for effect in every:
        key = effect.vector.target, effect.vector.protocol, effect.task, effect.metric
        groups.setdefault(key, []).append(effect)
    for key, group in groups.items():
        fitting = [effect for effect in group if dimension_of(effect.vector.dataset) == dimension_of(effect.task)]
        groups[key] = fitting or group
    return groups


def by_source(every: Iterable[Effect]) -> dict[str, Effect]:
    """Strongest published vector of each source checkpoint; sources in order, the target itself last."""
    published = [effect for effect in every if effect.vector.kind == ""]
    others = in_order({effect.vector.source for effect in published if not effect.vector.own})
    target_itself = dict.fromkeys(effect.vector.source for effect in published if effect.vector.own)
    best = {
        name: strongest(effect for effect in published if effect.vector.source == name)
        for name in [*others, *target_itself]
    }
    return {name: effect for name, effect in best.items() if effect}


def gains(chosen: Iterable[Effect]) -> pd.DataFrame:
    """Gains of each effect's metric over the strengths, at the effect's layer; columns `GAINS`.

    `gain` is positive where it is better; `apart` says whether it is beyond the interval that holds for all settings
    of the task at once; the last two columns are NaN where they were not measured.
    """
    rows = []
    for effect in chosen:
        vector, layer = effect.vector, effect.layer
        for strength in vector.strengths:
            steered = vector.estimate(effect.task, effect.metric, layer, strength)
            if steered is not None:
                gain = better_by(effect.metric, steered.value, effect.unsteered.value)
                costs = vector.perplexity_ratio(layer, strength), vector.capability_change(layer, strength)
                paired = vector.estimate(effect.task, DIFFERENCE + effect.metric, layer, strength)
                apart = bool(_apart(paired, steered, effect.unsteered, effect.settings))
                rows.append((effect.task, effect.metric, vector.source, layer, strength, gain, apart, *costs))
    return pd.DataFrame(rows, columns=list(GAINS)).astype({"perplexity_ratio": float, "capability_change": float})


def compared(every: Sequence[Effect]) -> dict[str, Estimate]:
    """Compare effects on one task: the unsteered model, and the strongest effect of each role that is there.

    The control is a random one, of the same source as the best other checkpoint's vector, or else the target's own,
    where there is such a one.

    Returns:
        Estimates by role: `UNSTEERED`, `OWN`, `BEST`, `RANDOM`, in this order.
    """
    published = [effect for effect in every if effect.vector.kind == ""]
    of_target = strongest(effect for effect in published if effect.vector.own)
    best = strongest(effect for effect in published if not effect.vector.own)
    judged = best or of_target
    if judged is None:
        return {}
    randoms = [effect for effect in every if effect.vector.kind == "random"]
    beside = [effect for effect in randoms if effect.vector.source == judged.vector.source]
    random = strongest(beside or randoms)
    # A control that has no setting of its own is shown at that of the vector beside it.
    control = random.steered if random else judged.controls.get("random")
    roles = {
        UNSTEERED: judged.unsteered,
        OWN: of_target and of_target.steered,
        BEST: best and best.steered,
        RANDOM: control,
    }
    return {role: estimate for role, estimate in roles.items() if estimate}


def _effect(vector: SteeredRows, task: str, beside: Sequence[SteeredRows]) -> Effect | None:
    setting = _chosen(vector, task) if vector.protocol == "sound" else _best(vector, task)
    if setting is None:
        return None
    metric, layer, strength = setting
    sound = vector.protocol == "sound"
    unsteered = vector.unsteered(task, metric)
    steered = vector.estimate(task, CHOSEN + metric if sound else metric, layer, strength)
    if unsteered is None or steered is None:
        return None
    judged = VALIDATION + metric if sound else metric
    validated, plain = vector.estimate(task, judged, layer, strength), vector.unsteered(task, judged)
    merit = better_by(metric, validated.value, plain.value) if validated and plain else float("-inf")
    controls = {}
    for kind in CONTROLS:
        of_kind = [_at_its_own(other, task, metric, layer, strength) for other in beside if other.control == kind]
        known = [estimate for estimate in of_kind if estimate]
        if known:
            controls[kind] = max(known, key=lambda estimate: better_by(metric, estimate.value, 0))
    paired = vector.estimate(task, DIFFERENCE + metric, layer, strength)
    at = (vector.rows["task"] == task) & (vector.rows["metric"] == judged) & (vector.rows["strength"] != 0)
    tried = vector.rows[at].drop_duplicates(["layer", "strength"])
    tied = int((tried["value"] == validated.value).sum()) - 1 if validated and strength else 0
    return Effect(vector, task, metric, layer, strength, unsteered, steered, paired, merit, controls, len(tried), tied)


def _comparable(effect: Effect) -> Hashable:
    """What effects share of which the best is told; controls are compared among themselves."""
    vector, fits = effect.vector, dimension_of(effect.vector.dataset) == dimension_of(effect.task)
    return vector.target, vector.protocol, effect.task, effect.metric, vector.control, fits


def _apart(paired: Estimate | None, steered: Estimate, plain: Estimate, comparisons: int) -> bool | None:
    if paired is not None:
        return paired.among(comparisons).apart_from(NO_CHANGE)
    return steered.among(comparisons).apart_from(plain.among(comparisons))


def _at_its_own(control: SteeredRows, task: str, metric: str, layer: int, strength: float) -> Estimate | None:
    """A control at its own chosen or best setting, as the vector beside it is; where there is none, at the vector's."""
    sound = control.protocol == "sound"
    setting = _chosen(control, task) if sound else _best(control, task)
    if setting is not None and setting[0] == metric:
        layer, strength = setting[1:]
    return control.estimate(task, metric, layer, strength)


def _chosen(vector: SteeredRows, task: str) -> tuple[str, int, float] | None:
    """Metric, layer and strength that the table says were chosen."""
    rows = vector.rows[(vector.rows["task"] == task) & vector.rows["metric"].str.startswith(CHOSEN)]
    if rows.empty:
        return None
    row = rows.iloc[0]
    return str(row["metric"]).removeprefix(CHOSEN), int(row["layer"]), float(row["strength"])


def _best(vector: SteeredRows, task: str) -> tuple[str, int, float] | None:
    """Main metric, and the layer and strength at which it is best; of equals the gentlest push, at the lowest layer."""
    rows = vector.rows[vector.rows["task"] == task]
    metric = main_metric(task, set(rows["metric"]))
    tried = rows[(rows["metric"] == metric) & (rows["strength"] != 0)]
    if metric is None or tried.empty:
        return None
    tried = tried.assign(size=tried["strength"].abs()).sort_values(["size", "layer"], kind="stable")
    values = tried["value"].to_numpy(float)
    row = tried.iloc[int((-values if metric in LOWER_IS_BETTER else values).argmax())]
    return metric, int(row["layer"]), float(row["strength"])
