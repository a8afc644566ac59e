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

# Bar of `sound`'s time over `paper`'s, baselines included, although a sweep computes these once.
BAR = 15.0


class Sound:
    """Protocol `sound` on the first set. Seconds are those of `sound` alone; agreements give its ratio to `paper`."""

    name = "sound"
    unit = "layers"
    contenders: tuple[str, ...] = (JTRACE,)

    def measure(self, contender: str, workload: Workload) -> Measured:
        statements = next(iter(workload.sets.values()))
        residuals, members, layers = (
            workload.residuals,
            workload.packed.members[statements.name],
            range(workload.config.depth),
        )
        folded = sound_set(statements, SoundConfig())
        text = text_scores(statements, folded.folds)
        # One initialisation is timed, and stands for all of them. Probes on its activations take half of the time.
        untrained = workload.untrained_residuals
        scores = np.stack([probe_scores(untrained, members, folded, layers)] * INITIALISATIONS, axis=1)
        calls = {
            "sound": lambda: sound_trace(residuals, members, folded, text, scores, layers),
            "paper": lambda: paper_trace(residuals, members, statements, layers),
            "text only": lambda: text_scores(statements, folded.folds),
            "random params": lambda: probe_scores(untrained, members, folded, layers),
        }
        times = {name: timed(call, workload.setting.rounds) for name, call in calls.items()}
        medians = {name: np.array(statistics.median(rounds)) for name, (_, rounds) in times.items()}
        return Measured(*times["sound"], len(layers), arrays=medians)

    def agree(self, arrays: Mapping[str, Mapping[str, np.ndarray]]) -> list[Agreement]:
        """Gives ratios of seconds."""
        seconds = arrays[JTRACE]
        alone, paper = float(seconds["sound"]), float(seconds["paper"])
        whole = alone + float(seconds["text only"]) + INITIALISATIONS * float(seconds["random params"])
        return [
            Agreement("sound's seconds over paper's", alone / paper, BAR),
            Agreement("the same with its baselines", whole / paper, BAR),
        ]


CASE: Case = Sound()
