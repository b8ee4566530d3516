"""Tables of benchmark results in Markdown, with published figures next to ours.

Each table shows one set and one protocol, and each column one metric.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from . import SETS
from .benchmark import Result, Row

# Quality factor of all published figures, which are for the gray protocol.
PUBLISHED_QUALITY = 10

# The paper's Table 1: PSNR (dB), PSNR-B (dB), SSIM, measured with AR-CNN's code. We found that this means PSNR-B on whole blocks and SSIM
# in the uniform 8×8 window: with these definitions, our row of plain JPEG on LIVE1 equals the paper's.
_TABLE_1_METRICS = ("psnr", "psnr_b_whole_blocks", "ssim_uniform")
_TABLE_1 = {
    "LIVE1": {
        "JPEG": (27.77, 25.36, 0.791),
        "AR-CNN": (28.97, 28.71, 0.822),
        "L4": (29.08, 28.71, 0.824),
        "CAS-CNN": (29.44, 29.19, 0.833),
        "GAN (Galteri)": (27.29, 26.69, 0.773),
        "EP-GAN": (28.80, 28.04, 0.823),
        "L_B": (29.85, 29.43, 0.848),
        "L_T": (28.73, 27.81, 0.822),
        "Proposed": (29.41, 28.63, 0.842),
    },
    "BSDS500_val": {
        "JPEG": (27.61, 24.98, 0.777),
        "AR-CNN": (28.82, 28.49, 0.805),
        "EP-GAN": (28.45, 27.59, 0.798),
        "L_B": (29.42, 28.90, 0.829),
        "L_T": (28.32, 27.22, 0.800),
        "Proposed": (28.95, 28.00, 0.821),
    },
}
# Jiang, Zhang and Timofte, "Towards Flexible Blind JPEG Artifacts Removal", ICCV 2021: PSNR-B of the whole image and SSIM in the
# Gaussian window, as its row of plain JPEG shows (25.33 dB and 0.773 on LIVE1).
_FBCNN = {"LIVE1": {"FBCNN": {"psnr": 29.75, "psnr_b": 29.40, "ssim_gaussian": 0.827}}}
# The paper's Table 2: E-PSNR (dB), with an edge detector that the paper does not describe.
_TABLE_2 = {
    "LIVE1": {"JPEG": 21.25, "AR-CNN": 21.88, "EP-GAN": 22.01, "Proposed": 22.22},
    "BSDS500_val": {"JPEG": 20.91, "AR-CNN": 21.51, "EP-GAN": 21.48, "Proposed": 21.68},
}

_METHODS = {"jpeg": "JPEG", "base": "L_B", "texture": "L_T", "fused": "fused"}
_SET_NAMES = {"BSDS500_val": "BSDS500 val"}


@dataclass(frozen=True)
class _Column:
    metric: str
    header: str
    digits: int = 2


_GRAY_COLUMNS = (
    _Column("psnr", "PSNR"),
    _Column("psnr_b_whole_blocks", "PSNR-B (whole blocks)"),
    _Column("ssim_uniform", "SSIM (8×8 uniform)", 3),
    _Column("psnr_b", "PSNR-B (whole image)"),
    _Column("ssim_gaussian", "SSIM (11×11 Gaussian)", 3),
    _Column("lpips", "LPIPS ↓", 3),
    _Column("consistent", "consistent blocks"),
)
_COLOUR_COLUMNS = (
    _Column("psnr_rgb", "PSNR of RGB"),
    _Column("psnr_y", "PSNR of Y"),
    _Column("lpips", "LPIPS ↓", 3),
    _Column("consistent", "consistent blocks"),
)


def render(results: Sequence[Result]) -> str:
    """Render results as Markdown tables, padded so that they are readable as plain text too.

    Args:
        results: results in any order; those of the same set, protocol, quality and limit share a table.

    Returns:
        Markdown that ends with a newline; empty without results.
    """
    groups: dict[tuple[bool, int, int, str, int], list[Result]] = {}
    for result in results:
        place = SETS.index(result.set_name) if result.set_name in SETS else len(SETS)
        key = (result.protocol == "colour", result.quality, place, result.set_name, result.limit or 0)
        groups.setdefault(key, []).append(result)
    sections = []
    for key in sorted(groups):
        group = sorted(groups[key], key=lambda result: (result.preset, result.network))
        sections += [_gray_table(group), _edge_table(group)] if group[0].protocol == "gray" else [_colour_table(group)]
    return "\n".join(sections)


def render_qualities(results: Sequence[Result]) -> str:
    """Render a short table for each set and protocol, with a row for each quality factor: projected results and plain JPEG.

    Args:
        results: results of whole sets in any order.

    Returns:
        Markdown that ends with a newline; empty if no set was measured at more than one quality.
    """
    groups: dict[tuple[bool, int, str], list[Result]] = {}
    for result in results:
        place = SETS.index(result.set_name) if result.set_name in SETS else len(SETS)
        groups.setdefault((result.protocol == "colour", place, result.set_name), []).append(result)
    chosen = [groups[key] for key in sorted(groups) if len({result.quality for result in groups[key]}) > 1]
    return "\n".join(_quality_table(sorted(group, key=lambda result: (result.quality, result.network))) for group in chosen)


def _quality_table(results: list[Result]) -> str:
    first = results[0]
    metric, name = ("psnr", "PSNR") if first.protocol == "gray" else ("psnr_rgb", "PSNR of RGB")
    header = ["", f"{name}, JPEG", "L_B", "fused", "least gain on an image, L_B", "fused", "LPIPS ↓, JPEG", "L_B", "fused"]
    lines = []
    for result in results:
        rows = {row.method: row for row in result.rows if row.projected or row.method == "jpeg"}
        gains = {
            method: min(rows[method].images[image][metric] - values[metric] for image, values in rows["jpeg"].images.items())
            for method in ("base", "fused")
        }
        psnr = [f"{rows[method].means[metric]:.2f}" for method in ("jpeg", "base", "fused")]
        lpips = [f"{rows[method].means['lpips']:.3f}" for method in ("jpeg", "base", "fused")]
        label = f"QF {result.quality}, {result.network}"
        lines.append([label, *psnr, f"{gains['base']:+.2f}", f"{gains['fused']:+.2f}", *lpips])
    title = f"**{_set_title(first)}, {first.protocol} protocol, by quality factor**: dB, projected; the least gain over plain JPEG"
    commands = " and ".join(sorted({f"`{result.command}`" for result in results if result.quality == first.quality}))
    return "\n".join([title, "", table(header, lines), "", f"With {commands}, and so on for every quality factor", ""])


def _gray_table(results: list[Result]) -> str:
    first = results[0]
    known = published(first)
    lines = [[method, *(_figure(values.get(c.metric), c) for c in _GRAY_COLUMNS)] for method, values in known.items()]
    lines += _our_lines(results, _GRAY_COLUMNS)
    title = f"**{_set_title(first)}, gray protocol, QF {first.quality}**: luma as a one-component JPEG, dB"
    if known:
        title += " (the paper's Table 1; where its JPEG row differs from ours, so does its protocol: compare gains over JPEG)"
    return _section(title, ["", *(c.header for c in _GRAY_COLUMNS)], lines, results)


def _edge_table(results: list[Result]) -> str:
    first = results[0]
    paper = _TABLE_2.get(first.set_name, {}) if _comparable(first) else {}
    column = _Column("e_psnr", "E-PSNR (our detector)")
    ours = _our_lines(results, (column,))
    title = f"**{_set_title(first)}, gray protocol, QF {first.quality}**: E-PSNR, dB, over the edges alone"
    if not paper:
        return _section(title, ["", column.header], ours, results)
    title += " (the paper's Table 2; its edge detector is not described, so ours is our own: compare within a column only)"
    lines = [[f"{method} (paper)", f"{value:.2f}", "–"] for method, value in paper.items()]
    lines += [[label, "–", value] for label, value in ours]
    return _section(title, ["", "E-PSNR (the paper's detector)", column.header], lines, results)


def _colour_table(results: list[Result]) -> str:
    first = results[0]
    title = f"**{_set_title(first)}, colour protocol, QF {first.quality}**: RGB as a 4:2:0 JPEG, dB; Y is full-range luma"
    return _section(title, ["", *(c.header for c in _COLOUR_COLUMNS)], _our_lines(results, _COLOUR_COLUMNS), results)


def published(result: Result) -> dict[str, dict[str, float]]:
    """Published figures that are comparable with a result in the gray protocol.

    Args:
        result: a result in the gray protocol.

    Returns:
        Metrics, named as in :class:`benchmark.Row`, by method with its source in brackets; empty unless the result is for the whole set
        and for the quality factor of the published figures.
    """
    if not _comparable(result):
        return {}
    paper = {
        f"{method} (paper)": dict(zip(_TABLE_1_METRICS, figures, strict=True))
        for method, figures in _TABLE_1.get(result.set_name, {}).items()
    }
    return paper | {f"{method} (its paper)": figures for method, figures in _FBCNN.get(result.set_name, {}).items()}


def _comparable(result: Result) -> bool:
    return result.quality == PUBLISHED_QUALITY and result.limit is None


def _our_lines(results: list[Result], columns: Iterable[_Column]) -> list[list[str]]:
    columns = tuple(columns)
    lines = []
    for number, result in enumerate(results):
        # Plain JPEG is the same for each preset: show it once.
        rows = result.rows if number == 0 else [row for row in result.rows if row.method != "jpeg"]
        lines += [[_label(result, row), *(_figure(row.means[c.metric], c) for c in columns)] for row in rows]
    return lines


def _label(result: Result, row: Row) -> str:
    if row.method == "jpeg":
        return "JPEG"
    return f"{_METHODS[row.method]}, {result.network}" + (", projected" if row.projected else "")


def _figure(value: float | None, column: _Column) -> str:
    if value is None:
        return "–"
    return f"{value:.2%}".replace("%", " %") if column.metric == "consistent" else f"{value:.{column.digits}f}"


def _set_title(result: Result) -> str:
    name = _SET_NAMES.get(result.set_name, result.set_name)
    return f"{name} ({len(result.rows[0].images)} images)"


def _section(title: str, header: list[str], lines: list[list[str]], results: list[Result]) -> str:
    commands = [f"With redecode {result.versions['redecode']}: `{result.command}`" for result in results]
    return "\n".join([title, "", table(header, lines), "", "\n\n".join(commands), ""])


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table, padded so that it is readable as plain text too; the first column is left-aligned, the others right-aligned.

    Args:
        header: names of the columns.
        lines: cells of each row, one per column.

    Returns:
        Markdown without a newline at the end.

    Examples:
        >>> print(table(["", "PSNR"], [["JPEG", "27.77"]]))
        |      |  PSNR |
        | :--- | ----: |
        | JPEG | 27.77 |
    """
    widths = [max(3, *(len(line[i]) for line in [header, *lines])) for i in range(len(header))]
    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    rows = [[line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))] for line in [header, rule, *lines]]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
