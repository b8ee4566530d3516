"""The mutants of bench/mutate.py are what they are called."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def mutate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutate", ROOT / "bench" / "mutate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutate"] = module
    spec.loader.exec_module(module)
    return module


def test_each_mutant_is_one_change(mutate: ModuleType) -> None:
    path = mutate.PACKAGE / "codec" / "dct.py"
    own = ast.dump(ast.parse(path.read_text(encoding="utf-8")))
    found = list(mutate.mutants(path))
    assert len({mutant.name for mutant in found}) == len({mutant.source for mutant in found}) == len(found) > 20
    for mutant in found:
        assert ast.dump(ast.parse(mutant.source)) != own


def test_the_tests_of_a_mutant_run_its_line(mutate: ModuleType) -> None:
    mutant = mutate.Mutant(
        "codec/dct.py: x: y", "codec/dct.py", 20, "\n" * 19 + "_SIDE = 9\n" + "\n" * 69 + "def area() -> int: return _SIDE**2\n"
    )
    seconds = {"tests/a.py::one": 1.0, "tests/a.py::two": 0.1, "tests/b.py::far": 0.1, "tests/b.py::slow": 1e4}
    lines = {"codec/dct.py": {"20": ["tests/a.py::one", "tests/a.py::two", "tests/b.py::slow"], "90": ["tests/b.py::far"]}}
    assert mutate.tests_for(mutant, {"seconds": seconds, "lines": lines}) == (["tests/a.py::two", "tests/a.py::one"], 1.1)
    # A line that runs when the module is imported: first those that run what uses it.
    lines["codec/dct.py"] = {"50": ["tests/a.py::two"], "90": ["tests/b.py::far"]}
    seconds["tests/a.py::two"] = mutate.BUDGET
    assert mutate.tests_for(mutant, {"seconds": seconds, "lines": lines})[0] == ["tests/b.py::far"]
