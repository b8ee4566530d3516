"""The fields of :class:`redecode.options.Options` as parameters of commands."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import typer

from ..options import CHOICES, DEFAULTS, TEXTS, TYPES, Options

Command = Callable[..., None]
# Names of the options with scope "engine", see :class:`redecode.options.Choice`.
ENGINE = tuple(name for name, choice in CHOICES.items() if choice.scope == "engine")


def with_options(
    command: Command,
    names: tuple[str, ...] = tuple(CHOICES),
    defaults: Mapping[str, Any] | None = None,
    unset: Mapping[str, str] | None = None,
) -> Command:
    """Replace the parameter `options` of a command by one parameter for each option, with its help, range and choices.

    Args:
        command: function with a parameter `options` for :class:`Options`, and any other parameters.
        names: names of the options that the command offers; the others keep their defaults.
        defaults: defaults that differ from those of Options, by option.
        unset: text in the help for defaults of None, where it differs from that of Options, by option.
    """
    defaults = DEFAULTS | dict(defaults or {})
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        if parameter.name == "options":
            parameters += [_parameter(name, defaults[name], (unset or {}).get(name)) for name in names]
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(command)
    def call(**values: Any) -> None:
        from .console import reported

        chosen: dict[str, Any] = {}
        for name in names:
            value = values.pop(name)
            chosen[name] = int(value) if CHOICES[name].among else value
        with reported():
            options = Options(**chosen)
        command(**values, options=options)

    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call


def _parameter(name: str, default: Any, unset: str | None) -> inspect.Parameter:
    choice, flag = CHOICES[name], f"--{name.replace('_', '-')}"
    kind: Any = TYPES[name]
    more: dict[str, Any] = {}
    if default is True:
        flag = f"{flag}/--no-{flag.removeprefix('--')}"
    texts = tuple(str(value) for value in choice.among or TEXTS[name])
    if texts:
        # Typer's choices are texts.
        kind = Literal[texts] if default is not None else Literal[texts] | None
        default = None if default is None else str(default)
    if choice.least is not None:
        more |= {"min": choice.least, "max": choice.most}
    if choice.unit:
        more["metavar"] = choice.unit.upper()
    if default is None:
        more["show_default"] = unset or choice.unset
    annotation = Annotated[kind, typer.Option(flag, help=choice.help, **more)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
