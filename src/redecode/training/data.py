"""Training pairs: crops of photographs, compressed on the fly by the product's own JPEG path."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import IterableDataset

from ..codec import colour, jpeg
from ..errors import DependencyError

# Every VALIDATION_STRIDE-th training image, in the order of the sorted names, is held out for validation.
VALIDATION_STRIDE = 25
COARSE_QUALITY = 20
CALIBRATION_IMAGES = 48
CALIBRATION_SIDE = 192


class DataConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The distribution of training crops.

    Attributes:
        patch: side of a crop in pixels, a multiple of 16 so that crops keep the file's block grid.
        batch: crops per step, summed over all processes.
        quality_low, quality_high: range of the quality factor, drawn log-uniformly: at coarse quantization there is most to restore, and a
            step of the quality factor matters most.
        coarse: share of crops, 0 … 1, whose range ends at COARSE_QUALITY, where restoration is needed most.
        gray: share of one-component files, 0 … 1. Half of them have studio range (MATLAB's rgb2ycbcr), as in the literature's gray
            protocol.
        subsampled: share of 4:2:0 among the colour files, 0 … 1; of the rest, three quarters are 4:4:4 and one quarter 4:2:2.
        downscale: share of crops, 0 … 1, from copies scaled to 0.7, where the photograph's own compression artifacts are smaller.
        decay_patch, decay_batch: patch and batch while the learning rate decays; 0 for the same as before. Small crops train faster, but
            all their pixels lie near a border.
    """

    patch: int = 96
    batch: int = 8
    decay_patch: int = 0
    decay_batch: int = 0
    quality_low: int = 5
    quality_high: int = 95
    coarse: float = 0.0
    gray: float = 0.25
    subsampled: float = 0.7
    downscale: float = 0.3


Sample = dict[str, Tensor]


def list_images(folder: Path, validation: bool) -> list[Path]:
    """The training photographs under a folder, or the held-out ones if `validation` is set.

    Raises:
        DependencyError: the folder holds no photographs.
    """
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png", ".avif"})
    if not paths:
        raise DependencyError(f"no photographs under {folder}; set REDECODE_DATA to the folder that holds train/")
    return [p for i, p in enumerate(paths) if (i % VALIDATION_STRIDE == 0) == validation]


def load(path: Path) -> NDArray[np.uint8]:
    """Decode to uint8 [H, W, 3] RGB."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def make_sample(original: NDArray[np.uint8], quality: int, subsampling: str) -> Sample:
    """Compress an original and decode it: a training sample.

    Args:
        original: uint8 [H, W, 3] RGB, or [H, W] for a gray file; sides multiples of 16.
        quality: quality factor.
        subsampling: chroma subsampling, see :func:`redecode.codec.jpeg.compress`; ignored for gray files.

    Returns:
        `degraded` and `original`: float32 [3, H, W] on the networks' scale, with zero chroma for gray files.
        `tables`: float32 [2, 8, 8], quantization steps of luma and chroma.
        `held`: the file's samples, like `degraded`, but chroma samples are repeated over their pixels instead of interpolated.
        `factors`: int64 [2], rows and columns of pixels that share a chroma sample.
    """
    image = jpeg.read(jpeg.compress(original, quality, subsampling))
    horizontal, vertical = image.max_sampling
    factors = [(vertical // v, horizontal // h) for h, v in (component.sampling for component in image.components)]
    held = np.stack([c.plane().repeat(v, 0).repeat(h, 1) for c, (v, h) in zip(image.components, factors, strict=True)])
    return {
        "degraded": to_network(image.planes()),
        "original": to_network(colour.to_planes(original)),
        "tables": torch.from_numpy(image.tables().astype(np.float32)),
        "held": to_network(held),
        "factors": torch.tensor(factors[-1]),
    }


def to_network(planes: NDArray[np.float32]) -> Tensor:
    """Convert planes [1 or 3, H, W], 0 … 255, to the networks' input, float32 [3, H, W], about -0.5 … 0.5."""
    scaled = torch.from_numpy((planes - 128) / np.float32(255))
    if len(scaled) == 1:
        scaled = torch.cat([scaled, torch.zeros_like(scaled).expand(2, -1, -1)])
    return scaled


class Draw(NamedTuple):
    """The random parameters of a crop: where it is cut out of a photograph, and how it is compressed.

    Attributes:
        photograph: index of the photograph.
        shrunk: 1 for the photograph's copy at 0.7 of the size, else 0.
        top, left: position of the crop in pixels.
        turns: number of rotations by 90°, 0 … 3.
        mirrored: 1 if the crop is mirrored after the rotation, else 0.
        quality: quality factor, 1 … 100.
        kind: index into KINDS.
    """

    photograph: int
    shrunk: int
    top: int
    left: int
    turns: int
    mirrored: int
    quality: int
    kind: int


# Kinds of files: gray with studio range, gray with full range, or colour with a chroma subsampling.
KINDS = ("studio", "gray", "4:4:4", "4:2:2", "4:2:0")


def draw(size: tuple[int, int], patch: int, config: DataConfig, generator: random.Random, photograph: int = 0, shrunk: int = 0) -> Draw:
    """Draw the parameters of a crop at random.

    Args:
        size: (height, width) of the photograph or of its shrunk copy, no smaller than the patch.
        patch: side of the crop, a multiple of 16.
        config: the distribution to draw from.
        generator: random number generator.
        photograph, shrunk: passed on to :class:`Draw`.
    """
    top = generator.randrange(size[0] - patch + 1)
    left = generator.randrange(size[1] - patch + 1)
    # The eight symmetries of the square.
    turns = generator.randrange(4)
    mirrored = int(generator.random() < 0.5)
    highest = COARSE_QUALITY if generator.random() < config.coarse else config.quality_high
    span = np.log(highest / config.quality_low)
    quality = round(config.quality_low * float(np.exp(span * generator.random())))
    if generator.random() < config.gray:
        kind = "studio" if generator.random() < 0.5 else "gray"
    else:
        kind = "4:2:0" if generator.random() < config.subsampled else generator.choice(["4:4:4"] * 3 + ["4:2:2"])
    return Draw(photograph, shrunk, top, left, turns, mirrored, quality, KINDS.index(kind))


def cut(image: NDArray[np.uint8], patch: int, drawn: Draw) -> tuple[NDArray[np.uint8], int, str]:
    """Cut a crop out of a photograph.

    Args:
        image: uint8 [H, W, 3], the photograph or its shrunk copy.
        patch: side of the crop in pixels.
        drawn: parameters of the crop, from :func:`draw`.

    Returns:
        The crop, the quality factor and the subsampling: the arguments of :func:`make_sample`.
    """
    crop: NDArray[Any] = image[drawn.top : drawn.top + patch, drawn.left : drawn.left + patch]
    crop = np.rot90(crop, drawn.turns)
    if drawn.mirrored:
        crop = crop[:, ::-1]
    crop = np.ascontiguousarray(crop)
    kind = KINDS[drawn.kind]
    if kind == "studio":
        return colour.studio_luma(crop), drawn.quality, "4:4:4"
    if kind == "gray":
        return colour.to_uint8(colour.to_planes(crop)[0]), drawn.quality, "4:4:4"
    return crop, drawn.quality, kind


def _with_shrunk(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A photograph, and its copy at 0.7 of the size."""
    image = load(path)
    size = (max(1, image.shape[1] * 7 // 10), max(1, image.shape[0] * 7 // 10))
    return image, np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


class Crops(IterableDataset[Sample]):
    """An endless stream of random training samples. Decoded photographs stay in memory.

    Sample number i depends on the seed and i only: neither on the number of workers or processes, nor on where a run was resumed.

    Attributes:
        patch: side of the crops in pixels, at most the larger of the config's `patch` and `decay_patch`.
        batch: crops per step.
        first: number of the first sample.

    All three may be changed before a new iteration.
    """

    def __init__(self, folder: Path, config: DataConfig, seed: int, rank: int = 0, processes: int = 1) -> None:
        self.config = config
        self.seed = seed
        self.rank, self.processes = rank, processes
        self.patch, self.batch, self.first = config.patch, config.batch, 0
        largest = max(config.patch, config.decay_patch)
        self.images: list[NDArray[np.uint8]] = []
        self.shrunk: list[NDArray[np.uint8]] = []
        with ThreadPoolExecutor() as pool:
            for image, shrunk in pool.map(_with_shrunk, list_images(folder, validation=False)):
                if min(image.shape[:2]) >= largest:
                    self.images.append(image)
                    if min(shrunk.shape[:2]) >= largest:
                        self.shrunk.append(shrunk)

    def __iter__(self) -> Iterator[Sample]:
        for drawn in self.draws():
            image = (self.shrunk if drawn.shrunk else self.images)[drawn.photograph]
            yield make_sample(*cut(image, self.patch, drawn))

    def draws(self) -> Iterator[Draw]:
        """The parameters of each crop, without the crops."""
        info = torch.utils.data.get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        pools = (self.images, self.shrunk)
        areas = [list(itertools.accumulate(image.shape[0] * image.shape[1] for image in pool)) for pool in pools]
        share = self.batch // self.processes
        # A DataLoader takes whole batches from its workers in turn.
        for step in itertools.count(worker, workers):
            begin = self.first + step * self.batch + self.rank * share
            for number in range(begin, begin + share):
                generator = random.Random(f"{self.seed}/{number}")
                shrunk = int(generator.random() < self.config.downscale and bool(self.shrunk))
                (photograph,) = generator.choices(range(len(pools[shrunk])), cum_weights=areas[shrunk])
                height, width, _ = pools[shrunk][photograph].shape
                yield draw((height, width), self.patch, self.config, generator, photograph, shrunk)


class Draws(IterableDataset[Tensor]):
    """An endless stream of the crops' parameters: int64 [8] each, the fields of :class:`Draw`."""

    def __init__(self, crops: Crops) -> None:
        self.crops = crops

    def __iter__(self) -> Iterator[Tensor]:
        return (torch.tensor(drawn) for drawn in self.crops.draws())


def validation_set(folder: Path, quality: int, subsampling: str | None, count: int, side: int) -> list[Sample]:
    """Samples for validation: central crops of held-out photographs.

    Args:
        folder: folder of the training photographs.
        quality: quality factor.
        subsampling: chroma subsampling, see :func:`make_sample`; None for gray files with studio range.
        count: maximum number of samples.
        side: side of a crop in pixels, a multiple of 16.
    """
    samples: list[Sample] = []
    for path in list_images(folder, validation=True):
        image = load(path)
        if min(image.shape[:2]) < side or len(samples) == count:
            continue
        top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
        crop = np.ascontiguousarray(image[top : top + side, left : left + side])
        samples.append(make_sample(crop if subsampling else colour.studio_luma(crop), quality, subsampling or "4:4:4"))
    return samples


def calibration_crops(folder: Path) -> Iterator[tuple[NDArray[np.uint8], int, str]]:
    """Crops of training photographs, one from each, at all qualities up to 90.

    Args:
        folder: folder of the training photographs.

    Yields:
        Arguments of :func:`make_sample`.

    Raises:
        DependencyError: no photograph is large enough.
    """
    generator = random.Random(0)
    paths = list_images(folder, validation=False)
    generator.shuffle(paths)
    large = (image for image in map(load, paths) if min(image.shape[:2]) >= CALIBRATION_SIDE)
    # Above quality 90 the decoder blends the networks out.
    mix = DataConfig(patch=CALIBRATION_SIDE, quality_low=5, quality_high=90)
    image = None
    for image in large:
        yield cut(image, CALIBRATION_SIDE, draw((image.shape[0], image.shape[1]), CALIBRATION_SIDE, mix, generator))
    if image is None:
        raise DependencyError(f"no photograph under {folder} has {CALIBRATION_SIDE} pixels on both sides")


def calibration_samples(folder: Path) -> list[Sample]:
    """Samples from the first of :func:`calibration_crops`, to measure the range of a network's feature maps."""
    return [make_sample(*crop) for crop in itertools.islice(calibration_crops(folder), CALIBRATION_IMAGES)]
