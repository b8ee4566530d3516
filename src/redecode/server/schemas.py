"""What the API takes and gives, as its OpenAPI description tells it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from .. import weights
from ..codec.encode import Encoding
from ..codec.formats import Format, LayerName
from ..recode import Options

MOST_AT_ONCE = 1000
_NAME_LENGTH = 200


class ProblemBody(BaseModel):
    """A refusal (RFC 9457)."""

    type: str
    title: str
    status: int
    code: str = Field(description="A short name that programs may rely on.")
    detail: str


class ResultChoices(BaseModel):
    """How a restored picture is to be written."""

    model_config = ConfigDict(extra="forbid")

    texture: float = Field(1.0, ge=0, le=1, description="How much texture: 0 is the fidelity layer alone.")
    format: Format = Format.PNG
    quality: int | None = Field(None, ge=1, le=100, description="Of webp (else lossless), avif (else 90) and jpeg (else 95).")
    layer: LayerName = LayerName.FUSED
    projection: bool = Field(True, description="Keep the result true to the file's data.")
    depth: Literal["8", "16"] = Field("8", description="Bits per channel; 16 is for png and tiff.")
    same_size: bool = Field(False, description="A JPEG with the file's own tables and coefficients.")
    strip: bool = Field(False, description="Leave the metadata out (the colour profile stays).")
    auto_orient: bool = Field(False, description="Turn the picture as its EXIF orientation says.")

    def options(self, max_pixels: int, force_quality: int | None = None, as_is: bool = False) -> Options:
        """In the terms of the engine."""
        return Options(
            texture=self.texture,
            layer=self.layer.value,
            projection=self.projection,
            encoding=Encoding(self.format.value, self.quality),
            depth=int(self.depth),
            same_size=self.same_size,
            strip=self.strip,
            auto_orient=self.auto_orient,
            force_quality=force_quality,
            max_pixels=max_pixels,
            as_is=as_is,
        )


class RestoreChoices(BaseModel):
    """How a file is to be restored."""

    model_config = ConfigDict(extra="forbid")

    preset: str = Field(weights.DEFAULT_PRESET, json_schema_extra={"enum": list(weights.PRESETS)}, description="Which networks.")
    force_quality: int | None = Field(None, ge=1, le=100, description="Take a picture that is no JPEG for one of this quality.")
    as_is: bool = Field(False, description="Do not go back to the first generation of a file that was compressed twice.")


class DecodeChoices(RestoreChoices, ResultChoices):
    """Both at once."""


class FiguresBody(BaseModel):
    """What a result says of itself."""

    texture: float
    consistency: float | None = Field(description="Share of the blocks that encode to the file's own coefficients, 0 … 1.")
    projection_psnr: float | None = Field(description="PSNR of the result before against after the projection, dB; null where equal.")


class PictureBody(BaseModel):
    """An open picture."""

    id: str
    preset: str
    force_quality: int | None = Field(description="As it was asked for.")
    as_is: bool = Field(description="As it was asked for.")
    state: Literal["waiting", "working", "done", "failed"]
    tiles_done: int
    tiles_total: int = Field(description="0 while it is not known.")
    facts: dict[str, Any] | None = Field(description="As /v1/info tells them.")
    width: int | None = Field(description="Of the layers, which stand upright.")
    height: int | None
    grid: tuple[int, int] = Field(description="Where the block grid begins in them, x and y.")
    changed: bool = Field(description="False where no trace of JPEG compression was found.")
    figures: FiguresBody | None
    problem: ProblemBody | None


class PicturesBody(BaseModel):
    """Several open pictures."""

    pictures: list[PictureBody]


class NetworkBody(BaseModel):
    """One network of a preset."""

    sha256: str
    parameters: int


class PresetBody(BaseModel):
    """A set of networks."""

    name: str
    default: bool
    networks: dict[str, NetworkBody]


class PresetsBody(BaseModel):
    """All presets of this installation."""

    presets: list[PresetBody]


class HealthBody(BaseModel):
    """That the server is there."""

    status: Literal["ok"]
    version: str


class Wanted(BaseModel):
    """A picture to put into an archive."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(max_length=100)
    name: str = Field("picture", max_length=_NAME_LENGTH, description="Of the original file; the result is named after it.")
    texture: float = Field(1.0, ge=0, le=1)


class ArchiveBody(BaseModel):
    """What to put into an archive."""

    model_config = ConfigDict(extra="forbid")

    pictures: list[Wanted] = Field(min_length=1, max_length=MOST_AT_ONCE)
    format: Format = Format.PNG
    quality: int | None = Field(None, ge=1, le=100)
