"""Planes → planes: the networks, shrinkage, mask, fusion and projection, tile by tile."""
