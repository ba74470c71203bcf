"""The picture: one panel for each work that peers do, too; bars from zero, one for each contender."""

from __future__ import annotations

from pathlib import Path

from benchmarks.report import median
from benchmarks.rounds import Results
from benchmarks.works import CONTENDERS, WORKS, Figure, Work

COLOURS = {
    "bare_sqlite": "#bbbbbb",
    "bare_postgres": "#bbbbbb",
    "with_perdure": "#1b7f5c",
    "with_dbos": "#d08a2f",
    "with_absurd": "#7a6fbe",
    "with_restate": "#4f86c6",
}


def draw(results: Results, path: Path) -> bool:
    """Write it as SVG; False if matplotlib (the extra `bench`) isn't installed, or nobody can be compared."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("svg")
    matplotlib.rcParams["svg.fonttype"] = "none"  # text stays text
    matplotlib.rcParams["svg.hashsalt"] = "bench"
    from matplotlib import pyplot

    panels = [found for work in WORKS if (found := _panel(results, work)) is not None]
    if not panels:
        return False
    columns = 2
    rows = -(-len(panels) // columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(12, 2.1 * rows), squeeze=False)
    for axis, (work, measure, bars) in zip(axes.flat, panels, strict=False):
        labels, values, colours = zip(*bars, strict=True)
        drawn = axis.barh(labels, values, color=colours)
        axis.bar_label(drawn, [f" {value:,.{measure.digits}f}" for value in values], fontsize=8)
        axis.margins(x=0.12)
        axis.set_xticks([])
        axis.invert_yaxis()
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right", "bottom"]].set_visible(False)
        better = "more is better" if measure.better == "higher" else "less is better"
        axis.set_title(f"{results.titles[work.key]}: {measure.label} ({better})", fontsize=9, loc="left")
    for axis in list(axes.flat)[len(panels) :]:
        axis.axis("off")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    return True


def _panel(results: Results, work: Work) -> tuple[Work, Figure, list[tuple[str, float, str]]] | None:
    """Bars of a work's first figure that several have, if there are any to compare."""
    for figure in work.figures:
        bars = [
            (one.label, value, COLOURS[one.module])
            for one in CONTENDERS
            if one.module in work.modules
            and (value := median(results, work.key, one.key, figure.name)) is not None
        ]
        if len({colour for _, _, colour in bars}) > 1:
            return work, figure, bars
    return None
