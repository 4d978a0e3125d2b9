"""Bar charts of medians as SVG, with the least and the most as whiskers, for doc/benchmarks.md.

By matplotlib: Debian's python3-matplotlib. Without it there are no charts, and the page does without.
"""
import os
import statistics
import sys

OURS, THEIRS = "#2a6f97", "#b0b7bf"


def draw(axes, title, unit, results):
    names = list(results)
    middles = [statistics.median(values) for values in results.values()]
    ranges = [[middle - min(values) for middle, values in zip(middles, results.values())],
              [max(values) - middle for middle, values in zip(middles, results.values())]]
    bars = axes.barh(names, middles, xerr=ranges, capsize=2, ecolor="#444444", error_kw={"linewidth": 0.8},
                     color=[OURS if name.startswith("puzzlefs") else THEIRS for name in names])
    axes.bar_label(bars, [f" {middle:.3g}" for middle in middles], fontsize=8)
    axes.margins(x=0.15)
    axes.invert_yaxis()  # the first one on top
    axes.set_title(title, fontsize=9, loc="left")
    axes.set_xlabel(unit, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def chart(folder, name, unit, tables):
    """Writes NAME.svg into the folder, a panel for each title → name → values. Returns what shows it in a
    Markdown page beside the folder; nothing without a folder, values or matplotlib."""
    tables = {title: results for title, results in tables.items() if results}
    if not folder or not tables:
        return ""
    try:
        import matplotlib
    except ImportError:
        print(f"Without the chart {name}: there is no matplotlib here.", file=sys.stderr)
        return ""
    matplotlib.use("svg")
    # Text stays text, and the same values give the same file.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"})
    from matplotlib import pyplot
    columns = min(2, len(tables))
    rows = -(-len(tables) // columns)
    bars = max(len(results) for results in tables.values())
    figure, all_axes = pyplot.subplots(rows, columns, figsize=(5 * columns, rows * (0.9 + 0.27 * bars)), squeeze=False)
    for axes, (title, results) in zip(all_axes.flat, tables.items()):
        draw(axes, title, unit, results)
    for axes in all_axes.flat[len(tables):]:
        axes.set_visible(False)
    figure.tight_layout()
    os.makedirs(folder, exist_ok=True)
    figure.savefig(os.path.join(folder, f"{name}.svg"), metadata={"Date": None})
    pyplot.close(figure)
    return f"![{name}: {', '.join(tables)}]({os.path.basename(folder)}/{name}.svg)\n"
