"""Numbers, intervals and names as they stand in sentences."""

import re
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
# C0 but for tab and line feed, delete, C1, overrides of the writing direction, halves of characters.
INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """Write control characters, which a name may hold, as their escapes, such as `\\x1b`."""
    return INVISIBLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def measure(metric: str) -> str:
    """Name a metric as people call it; `task: metric` for behaviour."""
    return MEASURES.get(metric, metric.replace(":", ": "))


def number(value: float, digits: int = 2) -> str:
    """Write a number as `−0.03`; never `−0.00`."""
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def spread(estimate: Estimate, digits: int = 2) -> str:
    """Write the interval as `0.02 to 0.08`, or `no interval` where it is not known."""
    if isnan(estimate.ci_low) or isnan(estimate.ci_high):
        return "no interval"
    return f"{number(estimate.ci_low, digits)} to {number(estimate.ci_high, digits)}"


def with_spread(estimate: Estimate, digits: int = 2) -> str:
    """Write value and interval as `0.05 (0.02 to 0.08)`."""
    return f"{number(estimate.value, digits)} ({spread(estimate, digits)})"


def listed(names: Sequence[str]) -> str:
    """Join names as `a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def counted(count: int, what: str) -> str:
    """Count things as `1 checkpoint`, `12 checkpoints`."""
    return f"{count} {what}" + "s" * (count != 1)
