"""Evaluation: metrics, the benchmark, and tables of its results. LPIPS needs the extra `eval`."""

from __future__ import annotations

# Names of the benchmark's sets: folders of originals in eval/ of the data folder.
SETS = ("LIVE1", "BSDS500_val")
