from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from redecode.evaluation import report
from redecode.evaluation.benchmark import Protocol, Result, Row

KINDS = [("jpeg", False), *((method, projected) for method in ("base", "texture", "fused") for projected in (False, True))]
GRAY = ("psnr", "psnr_b", "psnr_b_whole_blocks", "ssim_uniform", "ssim_gaussian", "e_psnr", "lpips", "consistent")
COLOUR = ("psnr_rgb", "psnr_y", "lpips", "consistent")


def result(
    set_name: str = "LIVE1", protocol: Protocol = "gray", quality: int = 10, preset: str = "fast", limit: int | None = None
) -> Result:
    names = GRAY if protocol == "gray" else COLOUR
    rows = []
    for number, (method, projected) in enumerate(KINDS):
        values = {name: 30 + number + i / 10 for i, name in enumerate(names)} | {"lpips": 0.1234, "consistent": 0.9996}
        rows.append(Row(method, projected, {"a.png": values, "b.png": values}))
    command = f"redecode bench {set_name} {protocol} {quality} {preset}"
    return Result(set_name, protocol, quality, preset, "int8", limit, command, {"redecode": "0.1.0"}, {}, tuple(rows))


def tables(text: str) -> Iterator[tuple[str, list[str], dict[str, list[str]]]]:
    """Title, header and rows by their first cell."""
    for section in re.split(r"^(?=\*\*)", text, flags=re.MULTILINE)[1:]:
        lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("|")]
        assert len({len(line) for line in lines}) == 1
        yield section.splitlines()[0], lines[0][1:], {line[0]: line[1:] for line in lines[2:]}


def test_gray_results_give_table_1_with_the_papers_rows_and_table_2() -> None:
    (title, header, rows), (edge_title, edge_header, edge_rows) = tables(report.render([result()]))
    assert title.startswith("**LIVE1 (2 images), gray protocol, QF 10**")
    assert header[:3] == ["PSNR", "PSNR-B (whole blocks)", "SSIM (8×8 uniform)"]
    assert rows["JPEG (paper)"] == ["27.77", "25.36", "0.791", "–", "–", "–", "–"]
    assert rows["Proposed (paper)"][:3] == ["29.41", "28.63", "0.842"]
    assert rows["JPEG"] == ["30.00", "30.20", "30.300", "30.10", "30.400", "0.123", "99.96 %"]
    assert rows["fused, fast, projected"][0] == "36.00"
    assert rows["FBCNN (its paper)"] == ["29.75", "–", "–", "29.40", "0.827", "–", "–"]
    assert len(rows) == 10 + 7
    assert "gray protocol, QF 10" in edge_title
    assert edge_header == ["E-PSNR (the paper's detector)", "E-PSNR (our detector)"]
    assert edge_rows["Proposed (paper)"] == ["22.22", "–"]
    assert edge_rows["L_B, fast"] == ["–", "31.50"]


def test_colour_results_have_a_table_of_their_own() -> None:
    ((title, header, rows),) = tables(report.render([result(protocol="colour")]))
    assert "colour protocol" in title
    assert header == ["PSNR of RGB", "PSNR of Y", "LPIPS ↓", "consistent blocks"]
    assert rows["JPEG"] == ["30.00", "30.10", "0.123", "99.96 %"]
    assert not any("paper" in label for label in rows)


@pytest.mark.parametrize("other", [result(quality=20), result("Kodak"), result(limit=2)])
def test_the_papers_rows_stand_beside_comparable_results_only(other: Result) -> None:
    assert "paper" not in report.render([other])


def test_order_is_protocol_then_quality_then_set_and_presets_share_a_table() -> None:
    results = [
        result(protocol="colour"),
        result("BSDS500_val"),
        result(quality=40),
        result(preset="fast"),
        result(preset="best"),
    ]
    text = report.render(results)
    assert report.render(results[::-1]) == text
    titles = [title.split("**")[1] for title, _, _ in tables(text)]
    assert titles[::2] == [
        "LIVE1 (2 images), gray protocol, QF 10",
        "BSDS500 val (2 images), gray protocol, QF 10",
        "LIVE1 (2 images), gray protocol, QF 40",
        "LIVE1 (2 images), colour protocol, QF 10",
    ]
    _, _, rows = next(tables(text))
    assert {"L_B, best", "L_B, fast"} <= set(rows)
    assert text.count("`redecode bench LIVE1 gray 10 best`") == 2


def test_qualities_share_a_short_table() -> None:
    results = [result(quality=40), result(), result(preset="best"), result("BSDS500_val"), result(protocol="colour")]
    ((title, header, rows),) = tables(report.render_qualities(results))
    assert title.startswith("**LIVE1 (2 images), gray protocol, by quality factor**")
    assert header[:3] == ["PSNR, JPEG", "L_B", "fused"]
    assert list(rows) == ["QF 10, best", "QF 10, fast", "QF 40, fast"]
    assert rows["QF 40, fast"] == ["30.00", "32.00", "36.00", "+2.00", "+6.00", "0.123", "0.123", "0.123"]


def test_nothing_gives_nothing() -> None:
    assert report.render([]) == report.render_qualities([]) == ""
