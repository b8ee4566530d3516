"""Evaluation: metrics, the benchmark, and tables of its results. LPIPS needs the extra `eval`."""

from __future__ import annotations

# The benchmark's sets: folders of originals below eval/ in the data folder.
SETS = ("LIVE1", "BSDS500_val")
