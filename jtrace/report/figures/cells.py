"""Numbers written into the cells of a map."""

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes


def write_cells(ax: Axes, values: np.ndarray, dark: Callable[[float], bool]) -> None:
    """Two decimals in each cell that has a value, white where the cell is `dark`."""
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            text = f"{value:.2f}".replace("-", "−")
            ax.text(column, row, text, ha="center", va="center", fontsize=6.5, color="white" if dark(value) else "0.15")
