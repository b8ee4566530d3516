"""The package's public API: names, docstrings and their examples."""

from __future__ import annotations

import doctest
import importlib
import inspect
import shutil
import types
from pathlib import Path

import pytest

import redecode
from redecode import errors

EXAMPLES = Path(__file__).parent.parent / "examples"
PACKAGE = Path(redecode.__file__).parent
WITH_EXAMPLES = sorted(path for path in PACKAGE.rglob("*.py") if ">>> " in path.read_text(encoding="utf-8"))


def module_name(path: Path) -> str:
    name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    return name.removesuffix(".__init__")


@pytest.mark.parametrize("module", [redecode, errors])
def test_all_names_what_is_there(module: types.ModuleType) -> None:
    """`__all__` is sorted and complete, and every name in it exists."""
    assert module.__all__ == sorted(module.__all__)
    assert all(getattr(module, name) is not None for name in module.__all__)
    public = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not inspect.ismodule(value) and getattr(value, "__module__", "").startswith("redecode")
    }
    assert public <= set(module.__all__)


def test_the_tree_of_errors_is_whole() -> None:
    """Every error is exported by the package, and derives from RedecodeError."""
    assert set(errors.__all__) <= set(redecode.__all__)
    assert all(issubclass(getattr(errors, name), errors.RedecodeError) for name in errors.__all__)


def test_everything_public_has_a_docstring() -> None:
    for name in redecode.__all__:
        assert inspect.getdoc(getattr(redecode, name)), name


def test_public_functions_have_an_example() -> None:
    for name in redecode.__all__:
        value = getattr(redecode, name)
        if inspect.isfunction(value):
            assert ">>> " in (value.__doc__ or ""), name


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=module_name)
def test_examples_in_docstrings_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They run in a folder that holds examples/; `redecode` is imported."""
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(module_name(path))
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    failed, tried = doctest.testmod(module, optionflags=options, extraglobs={"redecode": redecode})
    assert tried
    assert not failed
