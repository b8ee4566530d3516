"""What the API takes and gives, as its OpenAPI description tells it."""

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
    code: str = Field(description="A short name that programs may rely on.")
    detail: str


class Query(BaseModel):
    """Some of the options, as parameters of a query; subclasses get the fields of :class:`Options` of their scopes."""

    model_config = ConfigDict(extra="forbid")


def _query(name: str, doc: str, *scopes: Scope) -> type[Query]:
    fields: dict[str, Any] = {option: (TYPES[option], _field(option)) for option, choice in CHOICES.items() if choice.scope in scopes}
    return create_model(name, __base__=Query, __doc__=doc, **fields)


def _field(option: str) -> Any:
    choice = CHOICES[option]
    told = choice.help if choice.unset is None else f"{choice.help} Without it: {choice.unset}."
    extra: Any = {"enum": list(choice.among)} if choice.among else None
    return Field(DEFAULTS[option], ge=choice.least, le=choice.most, description=told, json_schema_extra=extra)


if TYPE_CHECKING:
    RestoreChoices = Query
    ResultChoices = Query
    DecodeChoices = Query
else:
    RestoreChoices = _query("RestoreChoices", "How a file is to be restored.", "restoring")
    ResultChoices = _query("ResultChoices", "How a restored picture is to be written.", "result")
    DecodeChoices = _query("DecodeChoices", "Both at once.", "restoring", "result")


class FiguresBody(BaseModel):
    """Figures of a result."""

    texture: float
    consistency: float | None = Field(description="Share of the blocks that agree with the file but for rounding, 0 … 1.")
    raw_consistency: float | None = Field(description="Share of the luma blocks that encode to the file's very coefficients, 0 … 1.")
    projection_psnr: float | None = Field(description="PSNR of the result before against after the projection, dB; null where equal.")


class PictureBody(BaseModel):
    """An open picture."""

    id: str
    preset: str
    threshold: int = Field(description="As it was asked for.")
    force_quality: int | None = Field(description="As it was asked for.")
    as_is: bool = Field(description="As it was asked for.")
    state: Literal["waiting", "working", "done", "failed"]
    stage: Literal["reading", "restoring", "finishing"] = Field(description="Of the work.")
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
    format: FormatName = "png"
    quality: int | None = Field(None, ge=1, le=100)


def _whole(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of a model with the models of its lists in their places."""
    schema = model.model_json_schema()
    inner = schema.pop("$defs")
    for field in schema["properties"].values():
        if "$ref" in field.get("items", {}):
            field["items"] = inner[field["items"]["$ref"].rpartition("/")[2]]
    return schema


ARCHIVE_SCHEMA = _whole(ArchiveBody)
