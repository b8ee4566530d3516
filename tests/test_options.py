"""Options are declared once: all interfaces offer each of them, with the same default, range and help."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args

import pytest
from typer.testing import CliRunner

from redecode import Decoder, UsageError, weights
from redecode.cli import main as cli
from redecode.codec import jpeg
from redecode.codec.formats import FormatName
from redecode.options import CHOICES, DEFAULTS, TEXTS, Device, Options
from redecode.restoration import mask, network

NAMES = [field.name for field in dataclasses.fields(Options)]


def command(name: str | None) -> Callable[..., None]:
    return cli.COMMANDS[name] if name else cli.restore_app.registered_commands[0].callback


def parameters(name: str | None) -> Mapping[str, inspect.Parameter]:
    """Parameters of a command; None is the command that restores files."""
    return inspect.signature(command(name)).parameters


def test_every_option_is_declared_in_full() -> None:
    assert list(CHOICES) == NAMES == list(DEFAULTS)
    for name, choice in CHOICES.items():
        assert choice.help.endswith("."), name
        assert (DEFAULTS[name] is None) == (choice.unset is not None), name


def test_defaults_and_choices_are_the_engines() -> None:
    assert Options().threshold == mask.THRESHOLD
    assert Options().pixel_limit == jpeg.MAX_PIXELS
    assert set(get_args(Device)) == set(network.DEVICES)
    assert set(TEXTS["preset"]) == set(weights.PRESETS)
    assert Decoder().preset == Options().preset


@pytest.mark.parametrize("verb", [None, "bulk"])
@pytest.mark.parametrize("name", NAMES)
def test_commands_offer_every_option(verb: str | None, name: str) -> None:
    parameter, choice = parameters(verb)[name], CHOICES[name]
    kind, told = get_args(parameter.annotation)
    assert told.help == choice.help
    assert parameter.default == (str(DEFAULTS[name]) if choice.among else DEFAULTS[name])
    if choice.least is not None:
        assert (told.min, told.max) == (choice.least, choice.most)
    texts = TEXTS[name] or tuple(map(str, choice.among or ()))
    assert all(text in str(kind) for text in texts)


@pytest.mark.parametrize("verb", [None, "bulk"])
def test_help_tells_every_option(verb: str | None) -> None:
    app, arguments = (cli.command_app, ["bulk", "--help"]) if verb else (cli.restore_app, ["--help"])
    told = CliRunner().invoke(app, arguments).output
    assert [name for name in NAMES if f"--{name.replace('_', '-')}" not in told] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_http_api_offers_every_option_that_is_not_the_operators(name: str) -> None:
    pytest.importorskip("fastapi")
    from redecode.server.schemas import DecodeChoices, RestoreChoices, ResultChoices

    choice = CHOICES[name]
    told = DecodeChoices.model_json_schema()["properties"]
    if choice.scope == "engine":
        # The operator sets the device, the precision and the limits.
        assert name not in told
        assert name in parameters("serve")
        return
    assert told[name]["description"].startswith(choice.help)
    assert told[name]["default"] == DEFAULTS[name]
    assert name in (RestoreChoices if choice.scope == "restoring" else ResultChoices).model_fields


def values_out_of_range() -> Iterator[tuple[str, Any]]:
    for name, choice in CHOICES.items():
        if choice.least is not None:
            yield name, choice.least - 1
        if choice.most is not None:
            yield name, choice.most + 1
        if choice.among or TEXTS[name]:
            yield name, "nothing"


@pytest.mark.parametrize(("name", "value"), list(values_out_of_range()))
def test_what_is_not_to_be_chosen_is_refused(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=name):
        Options(**{name: value})
    with pytest.raises(ValueError, match=name):
        Options(**{name: value})


@pytest.mark.parametrize(
    ("options", "source", "written"),
    [
        ({}, "jpeg", "png"),
        ({"same_size": True}, "jpeg", "jpeg"),
        ({"format": "jpg"}, "png", "jpeg"),
        ({"format": "tiff"}, None, "tiff"),
        ({"format": "same"}, "jpeg", "jpeg"),
        ({"format": "same"}, "webp", "webp"),
        ({"format": "same"}, None, "png"),
    ],
)
def test_the_format_that_is_written(options: dict[str, Any], source: FormatName | None, written: str) -> None:
    assert Options(**options).written_format(source) == written


def test_a_command_refuses_with_the_option_it_names() -> None:
    refusal = CliRunner().invoke(cli.restore_app, ["a.jpg", "--texture", "2"])
    assert refusal.exit_code == 2
    assert "--texture" in refusal.output


def test_nobody_gets_what_was_not_asked_for() -> None:
    """A file restored with no options is changed in nothing but its artifacts."""
    assert dataclasses.asdict(Options()) == {
        **{"texture": 1.0, "threshold": 3, "preset": "fast", "layer": "fused", "projection": True, "max_pixels": jpeg.MAX_PIXELS / 1e6},
        **{"format": None, "quality": None, "depth": 8, "same_size": False, "strip": False, "auto_orient": False},
        **{"force_quality": None, "as_is": False, "device": "cpu", "precision": None},
    }
