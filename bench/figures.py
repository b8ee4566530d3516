"""Draw the pictures of README.md and docs/: python bench/figures.py [before-after|details|gallery|mask|speed ...]; all without arguments.

`mask` and `speed` are drawn from results/*.json, `before-after` from a bundled example, `details` and `gallery` from LIVE1 (need
REDECODE_DATA).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from redecode.evaluation import benchmark
from redecode.restoration.mask import PAPER_THRESHOLD, THRESHOLD, WINDOW

ROOT = Path(__file__).resolve().parent.parent
RESULTS, DOCS = ROOT / "results", ROOT / "docs"
DPI = 110
# Seconds per megapixel above which a name is written to the left of its point in the plot of speed, so that it stays inside.
SLOW = 10
GALLERY_TEXT = """Twelve details of LIVE1 at quality factor 10 in colour with 4:2:0, restored with the preset `fast`, two times enlarged:
the plain decode, the fidelity layer L_B, the texture layer L_T, the mask of orientation diversity (white: texture may replace fidelity),
the result (the fusion of both), and the original, which the networks never saw. Made by `python bench/figures.py gallery`."""


def before_after() -> None:
    """docs/before-after.png: a detail of a bundled example as viewers show it, and restored."""
    from redecode.decoder import Decoder
    from redecode.evaluation import figure

    example = ROOT / "examples" / "parrots-q10.jpg"
    figure.before_after(Decoder(), example, (430, 110, 150, 120)).save(DOCS / "before-after.png")


def details() -> None:
    """docs/details.png: textured details of LIVE1, layer by layer."""
    from redecode.decoder import Decoder
    from redecode.evaluation import figure

    figure.details(Decoder(), 10).save(DOCS / "details.png")


def gallery() -> None:
    """docs/gallery.md and its pictures: twelve details of LIVE1 with all layers."""
    from redecode.decoder import Decoder
    from redecode.evaluation import figure

    decoder = Decoder()
    (DOCS / "gallery").mkdir(exist_ok=True)
    lines = ["# Gallery", "", GALLERY_TEXT]
    for detail in figure.GALLERY:
        name = Path(detail.file).stem
        figure.sheet(decoder, 10, detail).save(DOCS / "gallery" / f"{name}.webp", quality=88, method=6)
        lines += ["", f"![{name}](gallery/{name}.webp)"]
    (DOCS / "gallery.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def mask() -> None:
    """docs/mask.png: LPIPS against PSNR on both sets, over T, binary and soft, and over the amount of texture."""
    measured = json.loads((RESULTS / "mask.json").read_text(encoding="utf-8"))
    thresholds, softnesses, amounts = range(1, 9), (5, 9), (0.25, 0.5, 0.75)
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.2))
    for axis, name in zip(axes, ("held-out", "LIVE1"), strict=True):
        rows = {row["mask"]: row for row in measured[name]}
        curves: list[tuple[str, list[dict[str, float]], str]] = []
        for kind, style in {"binary": "o-", **{f"soft {soft}": "--" for soft in softnesses}}.items():
            points = [rows[f"window {WINDOW}, T {threshold}, {kind}"] for threshold in thresholds]
            curves.append((f"T {thresholds[0]} … {thresholds[-1]}, {kind}", points, style))
        for threshold in sorted({thresholds[0], THRESHOLD, PAPER_THRESHOLD}):
            where = f"window {WINDOW}, T {threshold}"
            points = [rows["L_B"], *(rows[f"{where}, texture {amount}"] for amount in amounts), rows[f"{where}, binary"]]
            curves.append((f"texture 0 … 1, T {threshold}", points, "x:"))
        for label, points, style in curves:
            axis.plot([p["psnr"] for p in points], [p["lpips"] for p in points], style, label=label, markersize=4)
        for threshold in (THRESHOLD, PAPER_THRESHOLD):
            point = rows[f"window {WINDOW}, T {threshold}, binary"]
            axis.annotate(f" T {threshold}", (point["psnr"], point["lpips"]), fontsize=8, va="top")
        for layer in ("L_B", "L_T"):
            axis.plot(rows[layer]["psnr"], rows[layer]["lpips"], "ks", markersize=5)
            axis.annotate(f" {layer}", (rows[layer]["psnr"], rows[layer]["lpips"]), fontsize=8)
        axis.set(title=f"{name}, QF 10, colour", xlabel="PSNR of RGB, dB", ylabel="LPIPS (lower is better)")
        axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(DOCS / "mask.png", dpi=DPI)


def speed() -> None:
    """docs/speed.png: quality against time, and time and memory against size."""
    measured = json.loads((RESULTS / "speed.json").read_text(encoding="utf-8"))
    pyplot = _pyplot()
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2))
    for name, seconds, psnr, style in _points(measured["peers"]):
        left.plot(seconds, psnr, style)
        before = seconds > SLOW or style == "o"
        left.annotate(f" {name} ", (seconds, psnr), fontsize=8, ha="right" if before else "left", va="bottom")
    left.set(xscale="log", xlabel="seconds per megapixel, 2 cores", ylabel="PSNR on LIVE1, QF 10, gray protocol, dB")
    left.margins(x=0.25, y=0.1)
    rows = measured["scaling"]
    sizes = [row["megapixels"] for row in rows]
    right.plot(sizes, [row["seconds"] for row in rows], "o-", label="seconds, start to file")
    right.plot(sizes, [row["peak MB"] for row in rows], "s--", label="peak memory, MB")
    right.set(xscale="log", yscale="log", xlabel="megapixels")
    right.legend()
    figure.tight_layout()
    figure.savefig(DOCS / "speed.png", dpi=DPI)


def _points(peers: dict[str, Any]) -> Iterator[tuple[str, float, float, str]]:
    """Name, seconds per megapixel, PSNR on LIVE1, and marker of each method."""
    ours = peers["redecode, seconds per megapixel"]
    for preset, style in (("fast", "o"), ("best", "s")):
        rows = benchmark.read(RESULTS / f"LIVE1-gray-qf10-{preset}.json").rows
        psnr = {row.method: row.means["psnr"] for row in rows if row.projected}
        yield f"redecode {preset}, L_B", ours[f"{preset}, L_B, int8"], psnr["base"], style
        yield f"redecode {preset}, fused", ours[f"{preset}, pipeline, int8"], psnr["fused"], style
    for name, peer in peers["peers"].items():
        if "skipped" not in peer:
            # FBCNN and SwinIR are timed with random weights: their quality is taken from their papers.
            source = "" if name.startswith("jpegqs") else " (its paper's dB)"
            yield name + source, peer["seconds per megapixel"], peer["PSNR on LIVE1"], "^"


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


FIGURES: dict[str, Callable[[], None]] = {
    "before-after": before_after,
    "details": details,
    "gallery": gallery,
    "mask": mask,
    "speed": speed,
}


def main() -> None:
    """Draw the chosen figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", choices=[*FIGURES, []], help="figures to draw; all by default")
    for name in parser.parse_args().what or FIGURES:
        FIGURES[name]()


if __name__ == "__main__":
    main()
