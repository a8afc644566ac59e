"""Facts of tasks by their names in the tables: dimension, main metric, and which way a metric is better."""

from collections.abc import Collection, Mapping

from jtrace.data.registry import BUILTIN, WORLD
from jtrace.runs.names import set_of
from jtrace.runs.steering_files import AUXILIARY

CAPABILITY = ("mmlu", "arc_easy", "arc_challenge", "race", "mathqa")
# Prefix of the names of lm-eval's tasks.
HARNESS = "lm-eval:"
_OF_HARNESS = {"word_perplexity", "byte_perplexity", "bits_per_byte", "brier_score", "ter"}
LOWER_IS_BETTER = frozenset({"toxicity", "perplexity", "unparsable"} | _OF_HARNESS)
# The metrics that can speak for a task, the first of them that was measured; `accuracy` for any other task.
MAIN_METRICS: Mapping[str, tuple[str, ...]] = {
    "truthfulqa": ("true_and_info", "true", "info", "mc2"),
    "truthfulqa-mc": ("mc2",),
    "toxigen": ("toxicity",),
    "perplexity": ("perplexity",),
    **{f"{name}-prompts": ("trust",) for name in WORLD},
}


# The same of lm-eval's tasks, whatever filter their answers went through; else the first by name speaks for one.
_HARNESS_MAIN = ("acc", "exact_match", "word_perplexity", "perplexity")


def main_metric(task: str, metrics: Collection[str]) -> str | None:
    """The metric that speaks for a task, of those that were measured; None where there is none."""
    if task.startswith(HARNESS):
        measured = sorted(metric for metric in metrics if not metric.startswith(AUXILIARY))
        ranked = [metric for name in _HARNESS_MAIN for metric in measured if metric.partition(",")[0] == name]
        return next(iter([*ranked, *measured]), None)
    preferred = MAIN_METRICS.get(set_of(task), ("accuracy",))
    return next((metric for metric in preferred if metric in metrics), None)


def is_trust(task: str) -> bool:
    """Tell whether a task measures trustworthiness, and neither fluency nor capability."""
    return task != "perplexity" and task not in CAPABILITY and not task.startswith(HARNESS)


def dimension_of(name: str) -> str:
    """Dimension of trustworthiness of a task or statement set; empty where it is not known."""
    name = set_of(name).removesuffix("-prompts").removesuffix("-mc")
    info = BUILTIN.get(name) or WORLD.get(name)
    return info.dimension if info else ""


def better_by(metric: str, value: float, than: float) -> float:
    """The difference, positive where `value` is the better one."""
    return than - value if metric in LOWER_IS_BETTER else value - than
