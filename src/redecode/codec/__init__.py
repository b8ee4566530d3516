"""Bytes ↔ picture: reading JPEG and raster files, what their data tell of the compression, and writing results."""
