"""Cases of a test, of which a few run by default."""

from collections.abc import Iterable
from typing import Any

import pytest

PARAM = type(pytest.param())


def few(values: Iterable[Any], count: int = 1) -> list[Any]:
    """Marks all cases but the first `count` as slow; a tuple holds the values of several arguments."""
    return [value if at < count else _slow(value) for at, value in enumerate(values)]


def _slow(value: Any) -> Any:
    if isinstance(value, PARAM):
        return value._replace(marks=(*value.marks, pytest.mark.slow))
    return pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.slow)
