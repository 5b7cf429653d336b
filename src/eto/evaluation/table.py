"""The tables of a run: the same cells for the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from eto.data.texts import markdown_text, shown

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.table import Table
    from rich.text import Text

_FIGURES = (
    ("average reward", "reward", 3),
    ("final reward", "final_reward", 3),
    ("success rate", "success", 3),
    ("steps to success", "steps_to_success", 1),
    ("mean turns", "turns", 1),
)
_DIFFERENCES = (("reward", "reward"), ("final reward", "final_reward"), ("success", "success"))
UNKNOWN = "–"
_NAME_WIDTH = 18
"""Characters that names have in a row of a terminal's table, at least."""

Cell = tuple[str, ...]
"""A cell's value and, where it has an interval, the low and high bounds."""


def agent_rows(agents: Mapping[str, Any]) -> tuple[list[str], list[list[Cell]]]:
    """Header and one row per agent: mean and 95% interval of each figure, then counts."""
    header = ["agent", "tasks", *(title for title, _, _ in _FIGURES), "disasters"]
    rows: list[list[Cell]] = []
    for agent, figures in agents.items():
        cells = [interval_cell(figures[name], digits, min(digits, 2)) for _, name, digits in _FIGURES]
        rows.append([(agent,), (str(figures["tasks"]),), *cells, (str(figures["disasters"]),)])
    return header, rows


def difference_rows(agents: Mapping[str, Any], baseline: str) -> tuple[list[str], list[list[Cell]]]:
    """Header and one row per agent that is compared to the baseline."""
    header = [f"agent minus {baseline}", "tasks", *(title for title, _ in _DIFFERENCES), "p (reward)"]
    rows: list[list[Cell]] = []
    for agent, figures in agents.items():
        if entry := figures.get("difference"):
            cells = [interval_cell(entry[name], 3, 3, sign="+") for _, name in _DIFFERENCES]
            p = entry["reward"]["p"]
            rows.append([(agent,), (str(entry["reward"]["n"]),), *cells, (_p_value(p),)])
    return header, rows


def bound_rows(bounds: Mapping[str, Any]) -> tuple[list[str], list[list[Cell]]]:
    """Header and one row per bound: chosen by the reward of the test itself, so no agent earns it."""
    header = ["no agent: chosen by the test's reward", "tasks", "average reward"]
    return header, [
        [(name,), (str(reward["n"]),), interval_cell(reward, 3, 2)] for name, reward in bounds.items()
    ]


def kind_rows(agents: Mapping[str, Any]) -> tuple[list[str], list[list[Cell]]]:
    """Header and one row per task type: each agent's reward and success rate."""
    kinds = sorted({kind for figures in agents.values() for kind in figures["kinds"]})
    header = ["reward / success", "tasks", *agents]
    rows: list[list[Cell]] = []
    for kind in kinds:
        by_agent = [figures["kinds"].get(kind) for figures in agents.values()]
        tasks = max(figures["tasks"] for figures in by_agent if figures)
        cells = [_reward_and_success(figures) for figures in by_agent]
        rows.append([(kind,), (str(tasks),), *cells])
    return header, rows


def behaviour_rows(agents: Mapping[str, Any]) -> tuple[list[str], list[list[Cell]]]:
    """Header and one row per agent: signs of a broken one, see `evaluation.behaviour`."""
    header = ["how it acts", "repeated", "malformed", "most frequent verb", "entropy (nats)"]
    rows: list[list[Cell]] = []
    for agent, acted in agents.items():
        shares = [(f"{acted[name]:.1%}",) for name in ("repeated", "malformed")]
        verb = f"{acted['verb']} ({acted['verb_share']:.0%})"
        rows.append([(agent,), *shares, (verb,), (f"{acted['action_entropy']:.2f}",)])
    return header, rows


def interval_cell(interval: Mapping[str, Any], digits: int, bound_digits: int, *, sign: str = "") -> Cell:
    """`0.671`, `0.56` and `0.78`; the mean alone where the bounds are not known."""
    if interval["mean"] is None:
        return (UNKNOWN,)
    mean = f"{interval['mean']:{sign}z.{digits}f}"
    if interval["low"] is None:
        return (mean,)
    return mean, *(f"{interval[bound]:{sign}z.{bound_digits}f}" for bound in ("low", "high"))


def split_tables(results: Mapping[str, Any], split: str) -> dict[str, tuple[list[str], list[list[Cell]]]]:
    """The tables of a split by name, each with its header; rows are empty where there is nothing to say."""
    agents = results["splits"][split]["agents"]
    return {
        "agents": agent_rows(agents),
        "differences": difference_rows(agents, results["baseline"]),
        "types": kind_rows(agents),
        "behaviour": behaviour_rows(results["behaviour"].get(split, {})),
        "bounds": bound_rows(results["bounds"] if split == "test" else {}),
    }


def duration(seconds: float) -> str:
    """`1 h 02 min`, `4 min 05 s` or `7.5 s`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"


def _p_value(p: float | None) -> str:
    if not p:
        return UNKNOWN
    return f"{p:.3f}" if p >= 0.0005 else "<0.001"


def _reward_and_success(figures: Mapping[str, Any] | None) -> Cell:
    if figures is None:
        return (UNKNOWN,)
    means = (interval_cell(figures[name], 2, 2)[0] for name in ("reward", "success"))
    return (" / ".join(means),)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[Cell]], corner: str = "") -> str:
    """A table of texts and figures of any content. corner: the first column's head, as Markdown."""
    heads = [corner or markdown_text(header[0]), *map(markdown_text, header[1:])]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(header)]
    for row in rows:
        names = [markdown_text(cell[0]) for cell in row]
        bounds = [f" [{', '.join(cell[1:])}]" if len(cell) > 1 else "" for cell in row]
        lines.append("| " + " | ".join(map("".join, zip(names, bounds, strict=True))) + " |")
    return "\n".join(lines)


def rich_table(
    header: Sequence[str], rows: Sequence[Sequence[Cell]], title: str | None = None
) -> FittedTable:
    """A table for a terminal of any width: where its columns do not fit, a block of lines for each row."""
    return FittedTable(header, rows, title)


@dataclass(frozen=True)
class FittedTable:
    """What `rich_table` returns."""

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    title: str | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        if widths := self._widths(options.max_width):
            yield self._table(widths)
        else:
            yield from self._blocks()

    def _widths(self, room: int) -> list[int] | None:
        """Of each column, where they fit: a figure is never broken, names and heads between words alone."""
        from rich.cells import cell_len

        def width(text: str) -> int:
            return cell_len(shown(text, line=True))

        least, full = [], []
        for number, head in enumerate(self.header):
            cells = [line.plain for row in self.rows for line in _lines(row[number])]
            words = [word for text in (head, *(cells if number == 0 else ())) for word in text.split()]
            least.append(max([1, *map(width, words), *(map(width, cells) if number else ())]))
            full.append(max(least[-1], *map(width, (head, *cells))))
        least[0] = max(least[0], min(full[0], _NAME_WIDTH))
        spare = room - sum(least) - 2 * len(least)  # a blank and the box's line, a column
        if spare < 0:
            return None
        for number, wanted in enumerate(full):
            more = min(spare, wanted - least[number])
            least[number] += more
            spare -= more
        return least

    def _table(self, widths: Sequence[int]) -> Table:
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        table = Table(
            title=self._heading(),
            title_justify="left",
            box=SIMPLE_HEAD,
            show_edge=False,
            padding=(0, 1, 0, 0),
        )
        for number, name in enumerate(self.header):
            justify: Literal["left", "right"] = "right" if number else "left"
            table.add_column(_text(name), justify=justify, overflow="fold", width=widths[number])
        for row in self.rows:
            table.add_row(*(_text("\n").join(_lines(cell)) for cell in row))
        return table

    def _blocks(self) -> Iterator[Text]:
        if heading := self._heading():
            yield heading
        for row in self.rows:
            for number, (name, cell) in enumerate(zip(self.header, row, strict=True)):
                bounds = f" [{', '.join(cell[1:])}]" if len(cell) > 1 else ""
                head = f"{'  ' * bool(number)}{shown(name, line=True)}: " if name else ""
                yield _text(f"{head}{shown(cell[0], line=True)}{bounds}")

    def _heading(self) -> Text | None:
        from rich.text import Text

        return None if self.title is None else Text(shown(self.title, line=True), style="table.title")


def _text(text: str) -> Text:
    from rich.text import Text

    return Text(text if text == "\n" else shown(text, line=True), overflow="fold")


def _lines(cell: Cell) -> list[Text]:
    """The value, and its interval under it: `0.56–0.78`, or `-0.010 to +0.160` where signs matter."""
    from rich.text import Text

    if len(cell) == 1:
        return [Text(shown(cell[0], line=True))]
    between = " to " if cell[1].startswith(("+", "-")) else "–"
    return [Text(cell[0]), Text(between.join(cell[1:]), style="dim")]
