"""Do the tests see it when a line of the product changes? Mutants: one small change each, and the tests that ought to fail.

    python bench/mutate.py --count 300        # writes results/mutants.json; `make mutate`

A mutant is drawn from the rooms in ROOMS: a comparison, an operator, a constant, a condition or a call's keyword is changed. It counts as
caught where a test fails or runs out of time. What survives is listed with its line, to be tested or, if it changes nothing that
anybody could see, to be noted in EQUIVALENT.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "redecode"
ROOMS = ("codec", "restoration", "bulk", "decoder.py", "result.py", "recode.py", "files.py", "options.py", "pipelining.py")
RESULT = ROOT / "results" / "mutants.json"
# Of the tests of one mutant, in seconds: a mutant that loops for ever is caught by this.
TIMEOUT = 600
# Mutants that nobody could see, as "file:line: change", each with the reason.
EQUIVALENT: dict[str, str] = {}

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}


@dataclass(frozen=True)
class Mutant:
    """One change.

    Attributes:
        file: path below src/redecode.
        line: of the change.
        change: what became what.
        outcome: "caught", "survived" or "equivalent".
    """

    file: str
    line: int
    change: str
    outcome: str

    @property
    def name(self) -> str:
        """As EQUIVALENT lists it."""
        return f"{self.file}:{self.line}: {self.change}"


def changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """What a node can become, each with a description; the node itself is left as it is."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in _COMPARISONS:
        swapped = _COMPARISONS[type(node.ops[0])]
        yield f"{type(node.ops[0]).__name__} to {swapped.__name__}", ast.Compare(node.left, [swapped(), *node.ops[1:]], node.comparators)
    elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        other = _OPERATORS[type(node.op)]
        yield f"{type(node.op).__name__} to {other.__name__}", ast.BinOp(node.left, other(), node.right)
    elif isinstance(node, ast.BoolOp):
        turned = ast.And() if isinstance(node.op, ast.Or) else ast.Or()
        yield f"{type(node.op).__name__} to {type(turned).__name__}", ast.BoolOp(turned, node.values)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "not dropped", node.operand
    elif isinstance(node, ast.IfExp):
        yield "branches swapped", ast.IfExp(node.test, node.orelse, node.body)
    elif isinstance(node, ast.Constant) and type(node.value) in (bool, int, float):
        value = not node.value if isinstance(node.value, bool) else node.value + 1
        yield f"{node.value!r} to {value!r}", ast.Constant(value)


def mutations(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and description of every mutant of a file; while one is looked at, the tree is that mutant's."""
    annotations = {id(inner) for node in ast.walk(tree) for note in _annotations(node) for inner in ast.walk(note)}
    for parent in list(ast.walk(tree)):
        for field, value in ast.iter_fields(parent):
            for index, node in enumerate(value if isinstance(value, list) else [value]):
                if not isinstance(node, ast.expr) or id(node) in annotations:
                    continue
                for description, changed in changes(node):
                    _put(parent, field, index, ast.fix_missing_locations(ast.copy_location(changed, node)))
                    yield node.lineno, description
                    _put(parent, field, index, node)


def mutated(path: Path, number: int) -> str:
    """The source of a file's mutant of that number."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    next(islice(mutations(tree), number, None))
    return ast.unparse(tree)


def _annotations(node: ast.AST) -> list[ast.expr]:
    return [note for name in ("annotation", "returns") if (note := getattr(node, name, None)) is not None]


def _put(parent: ast.AST, field: str, index: int, node: ast.AST) -> None:
    value = getattr(parent, field)
    if isinstance(value, list):
        value[index] = node
    else:
        setattr(parent, field, node)


def tests_of(path: Path) -> list[str]:
    """The tests to run, those of the very module first."""
    room = path.relative_to(PACKAGE).parts[0]
    tests = ROOT / "tests"
    own = sorted(tests.rglob(f"test_{path.stem}*.py"))
    whole = [tests / room] if (tests / room).is_dir() else []
    shared = [tests / "test_decoder.py", tests / "golden", tests / "test_python.py", tests / "cli"]
    return [str(entry) for entry in dict.fromkeys([*own, *whole, *shared]) if entry.exists()]


def caught(path: Path, source: str) -> bool:
    """Whether a test fails where a file of the package has another source."""
    with tempfile.TemporaryDirectory(prefix="redecode-mutant-") as folder:
        copy = Path(folder) / "redecode"
        shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        (copy / path.relative_to(PACKAGE)).write_text(source, encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", "not slow and not browser and not cluster"]
        environment = os.environ | {"PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = subprocess.run([*command, *tests_of(path)], cwd=ROOT, env=environment, capture_output=True, timeout=TIMEOUT, check=False)
        except subprocess.TimeoutExpired:
            return True
        return done.returncode != 0


def main() -> None:
    """Draw mutants, run the tests on each, and write what became of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=300, help="how many mutants")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    arguments = parser.parse_args()
    files = [path for room in ROOMS for path in ([PACKAGE / room] if room.endswith(".py") else sorted((PACKAGE / room).rglob("*.py")))]
    everything = [
        (path, number, *told) for path in files for number, told in enumerate(mutations(ast.parse(path.read_text(encoding="utf-8"))))
    ]
    drawn = random.Random(arguments.seed).sample(everything, min(arguments.count, len(everything)))
    mutants = []
    for count, (path, number, line, change) in enumerate(drawn, 1):
        mutant = Mutant(path.relative_to(PACKAGE).as_posix(), line, change, "caught")
        if not caught(path, mutated(path, number)):
            mutant = Mutant(mutant.file, line, change, "equivalent" if mutant.name in EQUIVALENT else "survived")
        mutants.append(mutant)
        print(f"{count}/{len(drawn)} {mutant.outcome}: {mutant.name}", flush=True)
    real = [mutant for mutant in mutants if mutant.outcome != "equivalent"]
    share = sum(mutant.outcome == "caught" for mutant in real) / len(real)
    record = {"command": f"python bench/mutate.py --count {arguments.count} --seed {arguments.seed}", "caught": round(share, 4)}
    rows = [asdict(mutant) for mutant in mutants if mutant.outcome != "caught"]
    RESULT.write_text(json.dumps(record | {"mutants": len(mutants), "not_caught": rows}, indent=1) + "\n", encoding="utf-8")
    print(f"{share:.1%} caught")


if __name__ == "__main__":
    main()
