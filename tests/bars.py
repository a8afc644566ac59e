"""The numbers jtrace must meet: each check asserts its bar, and the run ends with what was measured."""

MEASURED: dict[str, tuple[float, float]] = {}


def within(what: str, value: float, bar: float) -> None:
    """Assert value ≤ bar, and keep the largest value seen for the table at the end of the run."""
    value = float(value)
    MEASURED[what] = (max(value, MEASURED.get(what, (value, bar))[0]), bar)
    assert value <= bar, f"{what}: {value:.2e} is over the bar of {bar:.0e}"
