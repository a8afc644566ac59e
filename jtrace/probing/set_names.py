"""Names of what is added up of statement sets' vectors: `stereoset`, `2*stereoset`, `stereoset+-0.5*toxigen`."""

import re

_TERM = re.compile(r"(?:(-?\d+(?:\.\d+)?)\*)?(.+)")


def factor_and_name(term: str) -> tuple[float, str]:
    """Splits a term: `-0.5*toxigen` into −0.5 and `toxigen`."""
    match = _TERM.fullmatch(term)
    if match is None:
        return 1.0, term
    factor, name = match.groups()
    return float(factor or 1), name


def times(factor: float, expression: str) -> str:
    """Names a sum times a factor."""
    return "+".join(_times(factor, term) for term in expression.split("+"))


def _times(factor: float, term: str) -> str:
    its_factor, name = factor_and_name(term)
    return name if factor * its_factor == 1 else f"{factor * its_factor:g}*{name}"
