"""Restoration of planes, tile by tile: networks, shrinkage, mask, fusion and projection."""
