"""Sub-benchmark `sound`: protocol `sound` with its defaults, beside `paper` on the same activations."""

import statistics
from collections.abc import Mapping

import numpy as np

from jtrace.benchmark.case import Agreement, Case, Measured, timed
from jtrace.benchmark.workload import JTRACE, Workload
from jtrace.probing.paper import paper_trace
from jtrace.probing.sound import probe_scores, sound_trace
from jtrace.probing.sound_set import SoundConfig, sound_set
from jtrace.probing.text_baseline import text_scores
from jtrace.sweep.baselines import INITIALISATIONS

# What `sound` may cost beside `paper`, its baselines among it though a sweep makes these once.
BAR = 15.0


class Sound:
    """The first set. Seconds are those of `sound` alone; what it is compared with is told in the agreements."""

    name = "sound"
    unit = "layers"
    contenders: tuple[str, ...] = (JTRACE,)

    def measure(self, contender: str, workload: Workload) -> Measured:
        of = next(iter(workload.sets.values()))
        residuals, members, layers = workload.residuals, workload.packed.members[of.name], range(workload.config.depth)
        folded = sound_set(of, SoundConfig())
        text = text_scores(of, folded.folds)
        # As for random params, whose activations have the same shape.
        scores = np.stack([probe_scores(residuals, members, folded, layers)] * INITIALISATIONS, axis=1)
        calls = {
            "sound": lambda: sound_trace(residuals, members, folded, text, scores, layers),
            "paper": lambda: paper_trace(residuals, members, of, layers),
            "text only": lambda: text_scores(of, folded.folds),
            "random params": lambda: probe_scores(residuals, members, folded, layers),
        }
        times = {name: timed(call, workload.setting.rounds) for name, call in calls.items()}
        medians = {name: np.array(statistics.median(rounds)) for name, (_, rounds) in times.items()}
        return Measured(*times["sound"], len(layers), arrays=medians)

    def agree(self, found: Mapping[str, Mapping[str, np.ndarray]]) -> list[Agreement]:
        """Ratios of seconds."""
        of = found[JTRACE]
        alone, paper = float(of["sound"]), float(of["paper"])
        whole = alone + float(of["text only"]) + INITIALISATIONS * float(of["random params"])
        return [
            Agreement("sound's seconds over paper's", alone / paper, BAR),
            Agreement("the same with its baselines", whole / paper, BAR),
        ]


CASE: Case = Sound()
