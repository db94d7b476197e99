"""The report of a survey: a page (HTML, pictures inside) or a picture (PNG, SVG, PDF). Needs matplotlib.

Three pictures: bits against KL of all recipes, the type of every tensor by layer, the error of every tensor.
"""

from __future__ import annotations

import base64
import html
import importlib.util
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyggml.arguments import PathLike, instance, list_of, text, text_or_none
from pyggml.arguments import path as read_path
from pyggml.errors import ArgumentError, UnsupportedError
from pyggml.files.atomic_file import replacing
from pyggml.keywords import known_only
from pyggml.quant.types import QuantType
from pyggml.recipes.survey import Surveyed, layers_of
from pyggml.shown import clip

PICTURES = (".png", ".svg", ".pdf")


@known_only
def write_report(rows: Sequence[Surveyed], path: PathLike, *, shown: str | None = None, title: str = "model") -> None:
    """Draws rows of survey() into an .html page, or a .png, .svg or .pdf picture, by the name of path.

    shown: the recipe whose tensors are drawn; None: the nearest to 4.5 bits per weight. Raises ArgumentError for
    another name, no rows or an unknown recipe, UnsupportedError without matplotlib (pip install 'pyggml[plots]').
    """
    ending = check(path)
    rows = [instance(f"rows[{i}]", each, Surveyed, "a row of survey()") for i, each in enumerate(list_of("rows", rows))]
    row, title = _chosen(rows, text_or_none("shown", shown)), text("title", title)
    from matplotlib.figure import Figure

    figures: list[Any] = [Figure(figsize=size, layout="constrained") for size in _sizes(row)]
    _draw(figures, rows, row)
    if ending in PICTURES:
        heights = [size[1] for size in _sizes(row)]
        whole: Any = Figure(figsize=(10, sum(heights)), layout="constrained")
        _draw(whole.subfigures(3, 1, height_ratios=heights), rows, row)
        content = _encoded(whole, ending[1:])
    else:
        content = _page(rows, row, [_encoded(f, "png") for f in figures], title).encode()
    read = dict.fromkeys(each for row in rows for each in (row.source, *row.texts) if each)
    with replacing(path, ArgumentError, read) as out:
        out.write(content)


def check(path: PathLike) -> str:
    """The ending of path; raises as write_report does, before time is spent on measuring."""
    ending = Path(read_path("path", path)).suffix.lower()
    if ending not in (".html", ".htm", *PICTURES):
        raise ArgumentError(f"path: a report is .html, {', '.join(PICTURES)}; got {clip(read_path('path', path))}")
    if importlib.util.find_spec("matplotlib") is None:
        raise UnsupportedError("a report needs matplotlib: pip install 'pyggml[plots]'")
    return ending


def _chosen(rows: Sequence[Surveyed], shown: str | None) -> Surveyed:
    if not rows:
        raise ArgumentError("a report needs at least one row of a survey")
    if shown is None:
        return min(rows, key=lambda row: abs(row.bits_per_weight - 4.5))
    for row in rows:
        if row.recipe.lower() == shown.lower():
            return row
    raise ArgumentError(f"recipe {shown!r} is not in the survey: {', '.join(dict.fromkeys(r.recipe for r in rows))}")


def _sizes(row: Surveyed) -> list[tuple[float, float]]:
    height = 1.6 + 0.32 * max(len(layers_of(row.types)[0]), 1)
    return [(10, 5), (10, height), (10, height)]


def _draw(parts: Sequence[Any], rows: Sequence[Surveyed], row: Surveyed) -> None:
    _bits(parts[0], rows)
    _types(parts[1], row)
    _errors(parts[2], row)


# ---- pictures ------------------------------------------------------------------------------------------------------


def _bits(figure: Any, rows: Sequence[Surveyed]) -> None:
    """Bits per weight against mean KL; below and left is better. A file equal to the source has no place on the log."""
    axes = figure.add_subplot()
    rows = [row for row in rows if row.found.kl_mean > 0]
    for importance, mark in ((False, "o"), (True, "^")):
        some = [row for row in rows if row.importance == importance]
        if some:
            label = "with importance" if importance else "plain"
            axes.plot([r.bits_per_weight for r in some], [r.found.kl_mean for r in some], mark, ms=5, label=label)
    for row in rows:
        if not row.importance:
            at = (row.bits_per_weight, row.found.kl_mean)
            axes.annotate(row.recipe, at, xytext=(4, 3), textcoords="offset points", fontsize=7)
    axes.set_yscale("log")
    axes.set_xlabel("bits per weight")
    axes.set_ylabel("mean KL to the source, nats")
    axes.grid(alpha=0.3, which="both")
    if rows:
        axes.legend()


def _grid(row: Surveyed, values: dict[str, float]) -> tuple[list[str], Any]:
    """Kinds of matrices, and a value for each and every layer; NaN where there is none."""
    kinds, n_layer = layers_of(row.types)
    grid = np.full((max(len(kinds), 1), max(n_layer, 1)), np.nan)
    for i, kind in enumerate(kinds):
        for layer in range(n_layer):
            grid[i, layer] = values.get(f"blk.{layer}.{kind}.weight", np.nan)
    return kinds, grid


def _types(figure: Any, row: Surveyed) -> None:
    """Bits of every matrix by layer, with the types' names where they fit."""
    bits = {name: QuantType.parse(kind).bits_per_weight for name, kind in row.types.items()}
    kinds, grid = _grid(row, bits)
    axes = _heat(figure, kinds, np.minimum(grid, 16), "bits", f"{row.recipe}: types of the layers' matrices")
    if grid.shape[1] <= 24:
        for i, kind in enumerate(kinds):
            for layer in range(grid.shape[1]):
                name = row.types.get(f"blk.{layer}.{kind}.weight", "")
                axes.text(layer, i, name, ha="center", va="center", fontsize=6, color="white")


def _errors(figure: Any, row: Surveyed) -> None:
    """Relative error of every matrix by layer."""
    kinds, grid = _grid(row, row.errors)
    _heat(figure, kinds, grid, "relative error", f"{row.recipe}: error of the layers' matrices")


def _heat(figure: Any, kinds: Sequence[str], grid: Any, label: str, title: str) -> Any:
    axes = figure.add_subplot()
    image = axes.imshow(grid, aspect="auto", cmap="viridis")
    axes.set_yticks(range(len(kinds)), kinds, fontsize=7)
    axes.set_xlabel("layer")
    axes.set_title(title, fontsize=9)
    figure.colorbar(image, ax=axes, label=label)
    return axes


def _encoded(figure: Any, kind: str) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format=kind, dpi=130)
    return out.getvalue()


# ---- the page ------------------------------------------------------------------------------------------------------

_STYLE = """body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse } td, th { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #8884 }
td:first-child, th:first-child { text-align: left } img { max-width: 100% }"""


def _page(rows: Sequence[Surveyed], row: Surveyed, pictures: Sequence[bytes], title: str) -> str:
    images = [f'<img alt="" src="data:image/png;base64,{base64.b64encode(p).decode("ascii")}">' for p in pictures]
    worst = sorted(row.errors.items(), key=lambda item: -item[1])[:12]
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style>
<h1>{html.escape(title)}</h1>
<p>Every file against the source on {rows[0].found.n} positions; its perplexity is
{rows[0].found.perplexity_a:.4f}.</p>
{images[0]}
{
        _table(
            ("recipe", "importance", "MB", "bits", "perplexity", "KL mean", "KL median", "KL 99 %", "same top"),
            [_cells(r) for r in rows],
        )
    }
<h2>{html.escape(row.recipe)}, tensor by tensor</h2>
{images[1]}
{images[2]}
<p>The largest errors:</p>
{_table(("tensor", "type", "relative error"), [(n, row.types[n], f"{e:.4f}") for n, e in worst])}
</html>
"""


def _cells(row: Surveyed) -> tuple[str, ...]:
    f = row.found
    return (
        row.recipe, "yes" if row.importance else "", f"{row.nbytes / 1e6:.1f}", f"{row.bits_per_weight:.3f}",
        f"{f.perplexity_b:.4f}", f"{f.kl_mean:.3e}", f"{f.kl_median:.3e}", f"{f.kl_99:.3e}", f"{f.same_top:.2%}",
    )  # fmt: skip


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["".join(f"<th>{html.escape(cell)}</th>" for cell in head)]
    lines += ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows]
    return "<table>" + "\n".join(f"<tr>{line}</tr>" for line in lines) + "</table>"
