"""Which classes are taken for which: the first measurement beside the last."""

from rich.console import Group, RenderableType
from rich.style import Style
from rich.table import Table
from rich.text import Text

from ondevice.dashboard.state import State
from ondevice.dashboard.surface import Surface

MOST_CLASSES = 12
SHORTEST_NAME = 5  # characters, where two matrices stand side by side
Matrix = tuple[tuple[int, ...], ...]
# Rising shares of a row, right and wrong: dark enough for white figures.
_RIGHT = ("#1c2b1c", "#1f4023", "#22572b", "#256e33", "#27863b")
_WRONG = ("#3a2222", "#5a2626", "#7a2a2a", "#992e2e", "#b83232")


def confusion_title(state: State) -> str:
    """What is shown, and what its rows are."""
    measured = [event for event in state.evaluations if event.confusion is not None]
    when = f" {_when(measured[-1].moment, measured[-1].step)}" if measured else ""
    return f"confusion{when} (a row: a true class)"


def confusion_panel(state: State, surface: Surface) -> RenderableType:
    """Two matrices, one where there is no room or no second; the worst pairs of many classes."""
    measured = [event for event in state.evaluations if event.confusion is not None]
    if not measured:
        why = "the model has no classes to confuse" if state.evaluations else "not measured yet"
        return Text(why, style="dim")
    first, last = measured[0], measured[-1]
    assert first.confusion is not None
    assert last.confusion is not None
    classes = len(last.confusion)
    names = names_of(state, classes)
    cell = max(3, len(str(max(max(row) for row in (*first.confusion, *last.confusion)))) + 1)
    label = min(max(len(name) for name in names), max(4, surface.width - classes * cell - 1))
    too_high, too_wide = classes + 1 > surface.height, classes * cell + label + 1 > surface.width
    if classes > MOST_CLASSES or too_high or too_wide:
        return _worst_pairs(first.confusion, last.confusion, names, surface)
    shown: list[tuple[str, Matrix]] = [("latest", last.confusion)]
    beside = min(label, surface.width - 2 * (1 + classes * cell) - 2)
    if last is not first and beside >= SHORTEST_NAME and classes + 2 <= surface.height:
        shown.insert(0, ("before", first.confusion))
        label = beside
    return _matrices(shown, names, label, cell, surface)


def names_of(state: State, classes: int) -> tuple[str, ...]:
    """Names of the classes; numbers where the data has none."""
    given = state.started.class_names
    return given if len(given) == classes else tuple(str(index) for index in range(classes))


def _when(moment: str, step: int) -> str:
    return moment if moment == "before" else f"at step {step:,}"


def _matrices(
    shown: list[tuple[str, Matrix]],
    names: tuple[str, ...],
    label: int,
    cell: int,
    surface: Surface,
) -> Group:
    classes = len(names)
    top, heads = Text(" " * label, no_wrap=True), Text(" " * label, no_wrap=True, style="dim")
    for index, (title, _) in enumerate(shown):
        space = " " * (1 if index == 0 else 3)
        top.append(space)
        top.append(f"{title:^{classes * cell}.{classes * cell}}", style="bold")
        heads.append(space)
        heads.append("".join(f"{_abbreviated(name, cell - 1):>{cell}}" for name in names))
    lines = [top, heads] if len(shown) > 1 else [heads]  # the title says when one was measured
    for true, name in enumerate(names):
        line = Text(f"{_abbreviated(name, label):<{label}}", no_wrap=True, overflow="crop")
        for index, (_, matrix) in enumerate(shown):
            line.append(" " * (1 if index == 0 else 3))
            for predicted, count in enumerate(matrix[true]):
                share = count / (sum(matrix[true]) or 1)
                figure = f"{count}" if count else surface.pick("·", ".")
                line.append(f"{figure:>{cell - 1}} ", _cell(true == predicted, share, surface))
        lines.append(line)
    return Group(*lines)


def _cell(right: bool, share: float, surface: Surface) -> Style:
    if not surface.colour:
        return Style(bold=right)
    if share == 0:
        return Style(color="grey42")
    shades = _RIGHT if right else _WRONG
    return Style(color="white", bgcolor=shades[min(4, int(5 * share))], bold=right)


def _abbreviated(name: str, width: int) -> str:
    """The initials of several words, or their beginnings; of one word its beginning."""
    if len(name) <= width:
        return name
    words = name.replace("_", " ").replace("-", " ").split()
    if not 1 < len(words) <= width:
        return name[:width]
    each = (width + 1) // len(words) - 1  # and a blank
    if each < 3:
        return "".join(word[0] for word in words)
    return " ".join(word if len(word) <= each else f"{word[: each - 1]}." for word in words)


def _worst_pairs(
    first: Matrix, last: Matrix, names: tuple[str, ...], surface: Surface
) -> RenderableType:
    pairs = sorted(
        (
            (last[true][predicted], first[true][predicted], true, predicted)
            for true in range(len(names))
            for predicted in range(len(names))
            if true != predicted and last[true][predicted]
        ),
        reverse=True,
    )
    if not pairs:
        return Text("every held-out sample is right", style="bold green")
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    rows = max(1, surface.height - 1)
    table.add_row("true", "taken for", "before", "last", style="dim")
    for now, before, true, predicted in pairs[:rows]:
        table.add_row(names[true], names[predicted], str(before), Text(str(now), style="bold red"))
    return table
