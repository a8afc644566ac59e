"""Numbers, intervals and names as they stand in sentences."""

from collections.abc import Sequence
from math import isnan

from jtrace.steering.results import Estimate

MEASURES = {
    "probe_accuracy": "probe accuracy",
    "mi_xt": "I(X;T)",
    "mi_yt": "I(Y;T)",
    "mi_xt_excess": "I(X;T) above its null",
    "mi_yt_excess": "I(Y;T) above its null",
}


def measure(metric: str) -> str:
    """A metric as people call it; `task: metric` for behaviour."""
    return MEASURES.get(metric, metric.replace(":", ": "))


def number(value: float, digits: int = 2) -> str:
    """As `−0.03`; never `−0.00`."""
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def spread(estimate: Estimate, digits: int = 2) -> str:
    """The interval as `0.02 to 0.08`; `no interval` where it is not known."""
    if isnan(estimate.ci_low) or isnan(estimate.ci_high):
        return "no interval"
    return f"{number(estimate.ci_low, digits)} to {number(estimate.ci_high, digits)}"


def with_spread(estimate: Estimate, digits: int = 2) -> str:
    """As `0.05 (0.02 to 0.08)`."""
    return f"{number(estimate.value, digits)} ({spread(estimate, digits)})"


def listed(names: Sequence[str]) -> str:
    """As `a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def counted(count: int, what: str) -> str:
    """As `1 checkpoint`, `12 checkpoints`."""
    return f"{count} {what}" + "s" * (count != 1)
