"""Measuring restored pictures: metrics, the benchmark, and the tables made of its results. LPIPS needs the extra `eval`."""

from __future__ import annotations

# The benchmark's sets, folders of originals under eval/ of the data folder.
SETS = ("LIVE1", "BSDS500_val")
