"""Draw the tables of README.md and docs/results.md from results/*.json: python bench/tables.py [--check]

In a page, a table stands between the lines `<!-- table: NAME -->` and `<!-- end of table -->`; all that is between them is replaced. No
number in a table is typed by hand. With --check nothing is written, and the exit code tells whether the pages are up to date.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from redecode.evaluation import benchmark, report
from redecode.evaluation.benchmark import Result

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
PAGES = (ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in ("results", "robustness")))
PLACE = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)

# Of the README's six rows, those that others have published: label, method as in report.published, and where the figures come from.
OTHERS = (("AR-CNN ¹", "AR-CNN (paper)"), ("FBCNN ²", "FBCNN (its paper)"))
COLUMNS = (("psnr", 2), ("psnr_b_whole_blocks", 2), ("ssim_uniform", 3), ("lpips", 3))
NONE = "–"
# The scenarios of bench/torture.py.
ATTACKS = {
    "load": "clients at a time, every tenth file bad, pictures opened and dropped; every result compared byte for byte",
    "dropped": "uploads that break off or are refused, by 16 clients at a time",
    "silent": "connections that say nothing, half a request, or never read their answer",
    "limits": "files that ask for more than they are, and a picture that takes longer than is allowed",
    "memory_12": "one picture of 12 megapixels: opened, saved twice, left alone",
    "memory_60": "one picture of 60 megapixels, likewise",
    "kills": "SIGKILL for whole runs of `bulk`, which are then finished",
    "full_disk": "no room beyond some bytes of a file, at random",
    "odd_archives": "tar and zip archives with flipped bits, cuts, and names that lead out",
    "forks": "forks while four threads read pictures",
    "fuzz": "rewritten files of every kind, through everything but the networks",
    "services": "Ray with nodes that die, an S3 server that fails and forgets",
}


def load(name: str) -> Any:
    """A file of results that is not a benchmark's."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def benchmarks() -> list[Result]:
    """All benchmarks of whole sets."""
    return [result for result in map(benchmark.read, sorted(RESULTS.glob("*-qf*.json"))) if result.limit is None]


def summary() -> str:
    """LIVE1 at QF 10, gray protocol: plain JPEG, others, the paper, and both presets; of the latter three L_B and the fused picture."""
    results = {r.network: r for r in benchmarks() if (r.set_name, r.protocol, r.quality) == ("LIVE1", "gray", report.PUBLISHED_QUALITY)}
    presets = {name: {(row.method, row.projected): row.means for row in results[name].rows} for name in ("fast", "best")}
    known = report.published(results["fast"])
    seconds = load("speed")["peers"]
    lines = [_row("JPEG", [presets["fast"]["jpeg", False]], [])]
    for label, method in OTHERS:
        peer = seconds["peers"].get(method.partition(" ")[0], {})
        lines.append(_row(label, [known[method]], [peer["seconds per megapixel"]] if "seconds per megapixel" in peer else []))
    lines.append(_row("the paper ¹", [known["L_B (paper)"], known["Proposed (paper)"]], []))
    for preset, rows in presets.items():
        times = [seconds["redecode, seconds per megapixel"][f"{preset}, {form}, int8"] for form in ("L_B", "pipeline")]
        lines.append(_row(f"**{preset}**", [rows["base", True], rows["fused", True]], times))
    return report.table(["", "PSNR, dB", "PSNR-B, dB", "SSIM", "LPIPS ↓", "s/MP ↓"], lines)


def _row(label: str, pictures: list[dict[str, float]], seconds: list[float]) -> list[str]:
    cells = [_pair([f"{p[metric]:.{digits}f}" if metric in p else NONE for p in pictures]) for metric, digits in COLUMNS]
    return [label, *cells, _pair([f"{s:.2f}" if s < 10 else f"{s:.0f}" for s in seconds])]


def _pair(values: list[str]) -> str:
    return " / ".join(values) if any(value != NONE for value in values) else NONE


def protocol(name: str) -> str:
    """Every way of decoding, both sets, at the quality factor that others publish."""
    chosen = [r for r in benchmarks() if r.protocol == name and r.quality == report.PUBLISHED_QUALITY]
    return report.render(chosen).rstrip()


def qualities() -> str:
    """One line for each quality factor."""
    return report.render_qualities(benchmarks()).rstrip()


def speed() -> str:
    """Seconds for a megapixel of both presets in all their forms, and of others."""
    measured = load("speed")
    machine = measured["machine"]
    lines = [[name, f"{value:.2f}"] for name, value in measured["peers"]["redecode, seconds per megapixel"].items()]
    for name, peer in measured["peers"]["peers"].items():
        if "skipped" not in peer:
            lines.append([name, f"{peer['seconds per megapixel']:.2f}"])
    where = f"Measured on {machine['cores']} cores, {machine['processor']}, {machine['instructions']}; redecode {measured['redecode']}."
    return "\n".join([report.table(["from the bytes of a file to pixels, 1 MP", "s/MP"], lines), "", where])


def peers() -> str:
    """How many times as long others take, measured in turns on one picture in one process."""
    measured = [(name, peer) for name, peer in load("speed")["peers"]["peers"].items() if "skipped" not in peer]
    forms = list(measured[0][1]["their time over ours"])
    lines = [[name, *(f"{peer['their time over ours'][form]:.2f}" for form in forms)] for name, peer in measured]
    return report.table(["its time over that of fast", *forms], lines)


def sizes() -> str:
    """The command from start to file."""
    lines = [[f"{row['megapixels']:.2f}", f"{row['seconds']:.1f}", f"{row['peak MB']}"] for row in load("speed")["scaling"]]
    return report.table(["size, MP", "seconds, start to file", "peak memory, MB"], lines)


def details() -> str:
    """Start-up, what int8 costs, and how busy the networks are kept."""
    measured = load("speed")
    lines = [[f"`redecode`, {name}", f"{value:.2f}"] for name, value in measured["start"].items()]
    for quality, lost in measured["int8"].items():
        figures = f"{lost['mean dB']:.3f} / {lost['worst dB']:.3f} dB"
        lines.append([f"PSNR that int8 loses on LIVE1, {quality}, mean / worst", figures])
    lines.append(["8 pictures in one command: share of the time in which a network computes", f"{measured['share']['inference']:.0%}"])
    return report.table(["", ""], lines)


def amounts() -> str:
    """What texture costs in PSNR for what it gains in LPIPS, by threshold and amount, on held-out photographs."""
    rows = {row["mask"]: row for row in load("mask")["held-out"]}
    base = rows["L_B"]

    def cost(name: str) -> str:
        lpips = 1 - rows[name]["lpips"] / base["lpips"]
        return f"{base['psnr'] - rows[name]['psnr']:.3f} dB for {lpips:.1%}".replace("%", " %")

    lines = [
        [f"T = {threshold}", *(cost(f"window 3, T {threshold}, {kind}") for kind in ("texture 0.5", "texture 0.75", "binary"))]
        for threshold in (1, 2, 3, 5)
    ]
    return report.table(["", "texture 0.5", "texture 0.75", "texture 1"], lines)


def histories() -> str:
    """Pictures with a past: gain of L_B of `fast` over the plain decode of the last file."""
    measured = load("histories")
    columns = ("plain", "gain", "as it is", "worst picture", "worst region")
    lines = [
        [name.replace(" > ", " → "), f"{row['plain']:.2f}", *(f"{row[column]:+.2f}" for column in columns[1:])]
        for name, row in measured["histories"].items()
    ]
    table = report.table(["history", "plain decode, dB", "gain", "gain with `--as-is`", "worst picture", "worst region"], lines)
    return f"{table}\n\n{measured['photographs']} photographs each: `python bench/histories.py --limit {measured['photographs']}`."


def detection() -> str:
    """In how many pictures an earlier compression is found, by what came after it."""
    measured = load("detection")
    qualities = sorted({quality for row in measured["found"].values() for quality in row}, key=int)
    lines = [
        [name, *(f"{row[q]:.0%}".replace("%", " %") if q in row else "" for q in qualities)] for name, row in measured["found"].items()
    ]
    table = report.table(["what followed", *(f"first q{quality}" for quality in qualities)], lines)
    return f"{table}\n\n{measured['photographs']} photographs each: `python bench/detection.py --limit {measured['photographs']}`."


def search_cost() -> str:
    """What the search for earlier compressions takes."""
    lines = [[name, f"{share:.1%}".replace("%", " %")] for name, share in load("detection")["cost"].items()]
    return report.table(["1 MP", "time of the search, of that of `fast`"], lines)


def false_alarms() -> str:
    """How often a past is claimed that was not."""
    lines = [[name, str(row["files"]), str(row["claimed"])] for name, row in load("false_alarms").items()]
    return report.table(["", "files", "pasts claimed"], lines)


def torture() -> str:
    """What `make torture` did, and what came of it."""
    found = load("torture")
    lines = []
    for name, what in ATTACKS.items():
        if name in found:
            figures = {figure: value for figure, value in found[name].items() if figure != "minutes"}
            told = ", ".join(f"{figure.replace('_', ' ')}: {value}" for figure, value in figures.items())
            lines.append([what, f"{found[name]['minutes']:.1f}", told])
    return report.table(["attack", "min", "figures"], lines)


def mutants() -> str:
    """What `make mutate` found."""
    found = load("mutants")
    names = {"mutants": "tried", "caught": "caught", "survived": "not caught", "equivalent": "that change nothing to be seen"}
    counts = {name: len(found[name]) if isinstance(found[name], list) else found[name] for name in names}
    return report.table(
        [*names.values(), "caught of those that change anything"], [[*map(str, counts.values()), f"{found['caught_share']:.1%}"]]
    )


TABLES: dict[str, Callable[[], str]] = {
    "summary": summary,
    "gray": lambda: protocol("gray"),
    "colour": lambda: protocol("colour"),
    "qualities": qualities,
    "speed": speed,
    "peers": peers,
    "sizes": sizes,
    "details": details,
    "amounts": amounts,
    "histories": histories,
    "detection": detection,
    "search-cost": search_cost,
    "false-alarms": false_alarms,
    "torture": torture,
    "mutants": mutants,
}


def fill(text: str) -> str:
    """A page with its tables drawn anew.

    Raises:
        KeyError: it has a place for a table that is not known.
    """
    return PLACE.sub(lambda place: f"{place[1]}{TABLES[place[2]]()}\n{place[3]}", text)


def main() -> int:
    """Write the pages that have changed, or tell which would."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a page is not up to date")
    check = parser.parse_args().check
    stale = 0
    for page in PAGES:
        old = page.read_text(encoding="utf-8")
        new = fill(old)
        if new != old:
            stale += 1
            print(f"{page.relative_to(ROOT)}: {'not up to date' if check else 'drawn anew'}")
            if not check:
                page.write_text(new, encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
