"""Draws docs/before-after.png, the README's first picture, from a bundled example: python docs/before_after.py"""

from pathlib import Path

from redecode.decoder import Decoder
from redecode.evaluation.figure import before_after

HERE = Path(__file__).parent

if __name__ == "__main__":
    picture = before_after(Decoder(), HERE.parent / "examples" / "parrots-q10.jpg", (430, 110, 150, 120))
    picture.save(HERE / "before-after.png")
