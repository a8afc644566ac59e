"""Times at which each checkpoint was fetched, read and computed: how far the stages of a sweep hide each other."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jtrace.report.figures.style import LABEL_COLOURS, WIDTH, clipped, panel_grid, plain
from jtrace.runs.log import AT_ONCE, CheckpointTiming, Span, by_process, duration, extent, overlap

MOST_ROWS = 4
SHADES = (LABEL_COLOURS[0], "#9CCAE8")  # neighbours in turn
INK = ("white", "0.1")  # of a name on each shade
BAR = 0.86  # of a lane's height
NAME_SIZE = 5.5  # points
LETTER = 0.62 * NAME_SIZE / 72  # inches, a wide one
LINE = 1.3 * NAME_SIZE / 72
ROOM = 6.3  # inches of a page-wide panel that bars have
# Seconds of a unit of time, its name, and up to how many seconds it is used.
UNITS = ((1, "s", 180), (60, "min", 3 * 3600), (3600, "h", float("inf")))

Command = list[CheckpointTiming]


def pipeline(passages: Sequence[CheckpointTiming]) -> Figure:
    """A panel per host, a lane per stage, a bar per checkpoint; pauses between commands are cut out and marked.

    Commands that ran at the same time on one host have a panel each. At most `MOST_ROWS` panels are shown.

    Args:
        passages: at least one that took time.
    """
    commands = by_process(passages)
    rows, pauses = panel_rows(commands), pauses_between(commands)
    shown = rows[:MOST_ROWS]
    whole = extent(passages)
    seconds = _along(whole.end, whole.start, pauses)
    unit, name = next((unit, name) for unit, name, most in UNITS if seconds <= most)
    lanes = [stage for stage in AT_ONCE if any(passage.span(stage) for passage in passages)]
    height = 0.5 if len(shown) == 1 else 0.3  # of a lane, inches
    figure, axes = panel_grid(len(shown), height=(0.5 + len(lanes) * height) / 1.4, columns=1)
    figure.set_figwidth(WIDTH)
    for ax, row in zip(axes, shown, strict=True):
        for command in row:
            _draw(ax, command, lanes, whole.start, pauses, unit, (ROOM * unit / seconds, height * BAR))
        for pause in pauses:
            cut_at = _along(pause.start, whole.start, pauses) / unit
            ax.axvline(cut_at, color="0.2", linewidth=0.8, linestyle=(0, (3, 2)))
        ax.set_xlim(0, seconds / unit)
        ax.set_ylim(len(lanes) - 0.5, -0.5)
        ax.set_yticks(range(len(lanes)), lanes)
        ax.tick_params(axis="y", length=0)
        ax.grid(False, axis="y")
        ax.set_axisbelow(True)
        ax.xaxis.set_major_locator(MaxNLocator(8))
        ax.set_title(plain(_title(row, lanes, len(rows) > 1)), loc="left", fontsize=7)
    some = f"; {len(shown)} of {len(rows)} hosts or processes shown" if len(shown) < len(rows) else ""
    cut = f"; {duration(sum(pause.seconds for pause in pauses))} without any command cut out (dashed)" if pauses else ""
    axes[-1].set_xlabel(f"time ({name}){cut}{some}")
    return figure


def panel_rows(commands: Sequence[Command]) -> list[list[Command]]:
    """Group the commands that are drawn in one panel: those that ran on one host, one after the other."""
    rows: list[list[Command]] = []
    for command in commands:
        host, start = _host(command), extent(command).start
        free = (row for row in rows if _host(row[-1]) == host and extent(row[-1]).end <= start)
        if (row := next(free, None)) is not None:
            row.append(command)
        else:
            rows.append([command])
    return rows


def pauses_between(commands: Sequence[Command]) -> list[Span]:
    """List the times in which no command was at work; `commands` by their starts."""
    pauses, until = [], extent(commands[0]).end
    for command in commands[1:]:
        span = extent(command)
        if span.start > until:
            pauses.append(Span(until, span.start))
        until = max(until, span.end)
    return pauses


def _draw(
    ax: Axes,
    command: Command,
    lanes: Sequence[str],
    zero: float,
    pauses: Sequence[Span],
    unit: float,
    inches: tuple[float, float],
) -> None:
    """The bars of one command; `inches` of a unit of time, and of a bar's height."""
    names = brief([passage.checkpoint for passage in command])
    for lane, stage in enumerate(lanes):
        for number, (passage, name) in enumerate(zip(command, names, strict=True)):
            if (span := passage.span(stage)) is None:
                continue
            start, width = _along(span.start, zero, pauses) / unit, span.seconds / unit
            # Snapped to pixels, the thin bars of a long sweep would vanish here and there.
            ax.barh(lane, width, BAR, start, color=SHADES[number % 2], linewidth=0, snap=False)
            along, across = LETTER * len(name), width * inches[0]
            if along < across or (along < inches[1] and across > LINE):
                turned = 0 if along < across else 90
                centre = start + width / 2
                ax.text(centre, lane, plain(name), ha="center", va="center", rotation=turned, fontsize=NAME_SIZE,
                        color=INK[number % 2])  # fmt: skip


def brief(names: Sequence[str]) -> list[str]:
    """Revisions alone where the model is one."""
    models = {name.rpartition("@")[0] for name in names}
    return [name.rpartition("@")[2] for name in names] if len(models) == 1 else list(names)


def _along(time: float, zero: float, pauses: Sequence[Span]) -> float:
    """Seconds since `zero`, without the pauses."""
    return time - zero - sum(max(0.0, min(time, pause.end) - pause.start) for pause in pauses)


def _title(row: Sequence[Command], lanes: Sequence[str], named: bool) -> str:
    passages = [passage for command in row for passage in command]
    count = len({passage.checkpoint for passage in passages})
    host = f"{clipped(_host(passages).partition('.')[0])}: " if named else ""
    several = f" in {len(row)} commands" if len(row) > 1 else ""
    text = f"{host}{count} checkpoint{'s' * (count != 1)}{several}"
    if (overlapped := overlap(passages)) is None:
        return text
    stages = ", ".join(f"{stage} {duration(getattr(overlapped, stage))}" for stage in lanes)
    return f"{text}, {duration(overlapped.wall)}; {stages}; wall / {overlapped.slowest} = {overlapped.ratio:.2f}"


def _host(passages: Sequence[CheckpointTiming]) -> str:
    return passages[0].process.partition(":")[0]
