"""Schemas of the API's requests and responses, for its OpenAPI description."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from ..codec.formats import FormatName
from ..options import CHOICES, DEFAULTS, TYPES, Scope

MOST_AT_ONCE = 1000
_NAME_LENGTH = 200


class ProblemBody(BaseModel):
    """A refusal (RFC 9457)."""

    type: str
    title: str
    status: int
    code: str = Field(description="A short name for programs, which does not change.")
    detail: str


class Query(BaseModel):
    """Options as query parameters; subclasses get the fields of :class:`Options` with their scopes."""

    model_config = ConfigDict(extra="forbid")


def _query(name: str, doc: str, *scopes: Scope) -> type[Query]:
    fields: dict[str, Any] = {option: (TYPES[option], _field(option)) for option, choice in CHOICES.items() if choice.scope in scopes}
    return create_model(name, __base__=Query, __doc__=doc, **fields)


def _field(option: str) -> Any:
    choice = CHOICES[option]
    description = choice.help if choice.unset is None else f"{choice.help} Default: {choice.unset}."
    extra: Any = {"enum": list(choice.among)} if choice.among else None
    return Field(DEFAULTS[option], ge=choice.least, le=choice.most, description=description, json_schema_extra=extra)


if TYPE_CHECKING:
    RestoreChoices = Query
    ResultChoices = Query
    DecodeChoices = Query
else:
    RestoreChoices = _query("RestoreChoices", "Options for restoring a file.", "restoring")
    ResultChoices = _query("ResultChoices", "Options for writing a restored picture.", "result")
    DecodeChoices = _query("DecodeChoices", "Options for restoring a file and writing the result.", "restoring", "result")


class FiguresBody(BaseModel):
    """Figures of a result."""

    texture: float
    consistency: float | None = Field(description="Share of the blocks that agree with the file apart from rounding, 0 … 1.")
    raw_consistency: float | None = Field(description="Share of the luma blocks that encode to exactly the file's coefficients, 0 … 1.")
    projection_psnr: float | None = Field(description="PSNR between the result before and after projection, dB; null if equal.")


class PictureBody(BaseModel):
    """An open picture."""

    id: str
    preset: str
    threshold: int = Field(description="The value in the request.")
    force_quality: int | None = Field(description="The value in the request.")
    as_is: bool = Field(description="The value in the request.")
    state: Literal["waiting", "working", "done", "failed"]
    stage: Literal["reading", "restoring", "finishing"] = Field(description="Stage of the work.")
    tiles_done: int
    tiles_total: int = Field(description="0 while it is unknown.")
    facts: dict[str, Any] | None = Field(description="Facts about the file, as in /v1/info.")
    width: int | None = Field(description="Width of the upright layers in pixels.")
    height: int | None
    grid: tuple[int, int] = Field(description="Offset of the block grid in the layers, x and y.")
    changed: bool = Field(description="False where no trace of JPEG compression was found.")
    figures: FiguresBody | None
    problem: ProblemBody | None


class PicturesBody(BaseModel):
    """Several open pictures."""

    pictures: list[PictureBody]


class NetworkBody(BaseModel):
    """A network of a preset."""

    sha256: str
    parameters: int


class PresetBody(BaseModel):
    """A preset: a set of networks."""

    name: str
    default: bool
    networks: dict[str, NetworkBody]


class PresetsBody(BaseModel):
    """All presets of this installation."""

    presets: list[PresetBody]


class HealthBody(BaseModel):
    """The state of the server."""

    status: Literal["ok"]
    version: str


class Wanted(BaseModel):
    """A picture to put into an archive."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(max_length=100)
    name: str = Field("picture", max_length=_NAME_LENGTH, description="Name of the original file, from which the result gets its name.")
    texture: float = Field(1.0, ge=0, le=1)


class ArchiveBody(BaseModel):
    """A request for an archive of results."""

    model_config = ConfigDict(extra="forbid")

    pictures: list[Wanted] = Field(min_length=1, max_length=MOST_AT_ONCE)
    format: FormatName = "png"
    quality: int | None = Field(None, ge=1, le=100)


def _whole(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of a model, with references in its lists replaced by the schemas themselves."""
    schema = model.model_json_schema()
    inner = schema.pop("$defs")
    for field in schema["properties"].values():
        if "$ref" in field.get("items", {}):
            field["items"] = inner[field["items"]["$ref"].rpartition("/")[2]]
    return schema


ARCHIVE_SCHEMA = _whole(ArchiveBody)
