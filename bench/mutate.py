"""Change single expressions of the product, and see whether the tests notice.

    python bench/mutate.py --record       # which test runs which line: every test once, under coverage
    python bench/mutate.py --count 300    # tries the mutants; results/mutants.json; `make mutate` does both
    python bench/mutate.py --again        # tries those once more that survived

A mutant is drawn from the rooms in ROOMS: a comparison, an operator, a constant, a condition or a branch is changed. The tests that run the
changed line are run on it, as many as fit into BUDGET seconds; for a line that only runs in processes of its own, or
when a module is imported, those of the module. A mutant counts as caught where a test fails or takes unreasonably long. What survives is
listed with its line, to be tested or, if it changes nothing that anybody could see, to be noted in EQUIVALENT with the reason.

Each outcome is noted as it comes, in the folder .mutants: the program can be stopped at any time, and goes on where it was.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "redecode"
ROOMS = ("codec", "restoration", "bulk", "decoder.py", "result.py", "recode.py", "files.py", "options.py", "pipelining.py")
# Their tests start Ray or a server of an object store, and take minutes.
LEFT_OUT = ("bulk/cluster.py",)
RESULT = ROOT / "results" / "mutants.json"
FOLDER = ROOT / ".mutants"
RECORD, JOURNAL = FOLDER / "record.json", FOLDER / "journal.jsonl"
# Of the tests of one mutant, in seconds, by the time that they took when they were recorded.
BUDGET = 45
# A mutant that takes so many times longer, and so many seconds more, loops.
SLOWER, PATIENCE = 3, 60
# Lines before and behind the changed one: who runs most of them, knows its branches.
NEAR = 6
# What tests import, and every child of this process then has already; nothing of redecode itself.
LIBRARIES = ("numpy", "PIL.Image", "onnxruntime", "hypothesis", "scipy.fft", "rich.console", "typer.testing", "tifffile", "png")
# Mutants that nobody could see, each with the reason: patterns that their names begin with.
EQUIVALENT: dict[str, str] = {
    r".*zip\(.*strict=True.*: True to False": "the lengths are equal; strict only guards against mistakes to come",
    r".*@dataclass\(.*True to False": "nothing changes such an object; frozen only guards against mistakes to come",
    r".*\.reshape\(.*-1.*: 1 to 2": "NumPy takes any negative length for the one that follows from the others",
    r"decoder\.py: _MASK_REACH = .*: FloorDiv to Mult": "a wider margin than the mask needs changes nothing but the time",
    r"codec/colour\.py: _ROWS = 16: 16 to 17": "how many rows are converted at a time changes nothing but the time",
    r"bulk/local\.py: _AHEAD = 4: 4 to 5": "how many files wait for a process changes nothing but the time",
    r"bulk/run\.py: with ThreadPoolExecutor\(1\) as pool:: 1 to 2": "it is given one task at a time",
    r"codec/exif\.py: size = \{3: 2, 4: 4\}.*: 0 to 1": "neither 0 nor 1 is a kind of number with a size there",
    r"decoder\.py: restored_tiles = .*: 1 to 2": "what is pipelined changes nothing but the time",
    r"restoration/shrinkage\.py: side = np\.where\(quantized != 0, .*: Lt to LtE": "quantized is not 0 where this counts",
    r"bulk/archive\.py: start = file\.read\(8\): 8 to 9": "what begins with the signature does so with one byte more",
    r"codec/libjpeg\.py: if level < 0 and .*: Lt to LtE": "libjpeg's decoder has no message of level 0",
}
# Mutants that count as not caught, and why there is no test for them.
UNTESTED: dict[str, str] = {
    r"codec/trace\.py: _ROUNDING, _SMOOTH_ROUNDING, ": "a tuned variance: whole sets of pictures tell which is best, not a test",
    r"codec/recompression\.py: _MIN_TEXTURED, _MIN_DISTINCT = ": "a tuned threshold: whole sets of pictures tell which is best, not a test",
    r"codec/recompression\.py: later = ": "the noise of the later compression on a grid that is off by a pixel: a matter of degree",
    r"codec/trace\.py: (result = strict|groups = ~holds)": "where the margin around new parts ends: a matter of degree",
    r"restoration/exact\.py: MIDDLE = 128": "the neutral chroma that the plain decode has there already",
    r"codec/metadata\.py: _STORAGE = ": "a tag whose folder is kept, so that it is not looked up",
    r"codec/recompression\.py: fit = fits\(image\.crop\(.*: 0 to 1": "one column less of the last MCU, which goes with its neighbour",
    r"codec/exif\.py: _THUMBNAIL_QUALITIES = ": "thumbnails may be of any quality",
    r"restoration/exact\.py: def keep_exact\(.*: 0 to 1": "a default that the decoder never uses",
}

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
        name: file, text of the line and change; with a number where that is not unique. It stays as it is while other lines move.
        file: path below src/redecode.
        line: of the change.
        source: the file with the change.
    """

    name: str
    file: str
    line: int
    source: str


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant.

    Attributes:
        name: of the mutant.
        line: where it is.
        outcome: "caught" or "survived".
        by: the test that failed, or "time" where the tests took unreasonably long.
        tests: how many were to be run.
        seconds: what that took.
    """

    name: str
    line: int
    outcome: str
    by: str
    tests: int
    seconds: float


def changes(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """What a node can become, each with a description."""
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


def mutants(path: Path) -> Iterator[Mutant]:
    """Every mutant of a file, in the order of its lines. Nothing but the changed expression is written anew."""
    text = path.read_text(encoding="utf-8")
    lines = text.encode().splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    tree = ast.parse(text)
    # Annotations change nothing. Parts of f-strings do not tell where they are before Python 3.12.
    hidden = {id(inner) for node in ast.walk(tree) for outer in _untouched(node) for inner in ast.walk(outer)}
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.expr) and id(node) not in hidden]
    known: Counter[str] = Counter()
    for node in sorted(nodes, key=lambda node: (node.lineno, node.col_offset)):
        for description, changed in changes(node):
            name = f"{path.relative_to(PACKAGE).as_posix()}: {lines[node.lineno - 1].decode().strip()}: {description}"
            known[name] += 1
            begin, end = starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[operator]
            data = text.encode()
            source = (data[:begin] + f"({ast.unparse(changed)})".encode() + data[end:]).decode()
            numbered = f"{name} ({known[name]})" if known[name] > 1 else name
            yield Mutant(numbered, path.relative_to(PACKAGE).as_posix(), node.lineno, source)


def _untouched(node: ast.AST) -> list[ast.AST]:
    if isinstance(node, ast.JoinedStr):
        return [node]
    return [note for name in ("annotation", "returns") if (note := getattr(node, name, None)) is not None]


def record(places: list[str], marks: str) -> None:
    """Run tests once, and note which of them run which line, and for how long; what is known of others is kept."""
    import coverage

    measured = coverage.Coverage(data_file=None, source=[str(PACKAGE)], config_file=False)
    seconds: dict[str, float] = {}
    failed: set[str] = set()

    class Recorder:
        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
            measured.switch_context(item.nodeid)
            began = time.perf_counter()
            result = yield
            seconds[item.nodeid] = round(time.perf_counter() - began, 3)
            measured.switch_context("")
            return result  # type: ignore[return-value]

        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            if report.outcome != "passed":
                failed.add(report.nodeid)

    measured.start()
    pytest.main(["-q", "-p", "no:cacheprovider", "-m", marks, *places], plugins=[Recorder()])
    measured.stop()
    known = json.loads(RECORD.read_text()) if RECORD.exists() else {"seconds": {}, "lines": {}}
    known["seconds"] = {name: taken for name, taken in (known["seconds"] | seconds).items() if name not in failed}
    data = measured.get_data()
    for file in data.measured_files():
        place = known["lines"].setdefault(Path(file).relative_to(PACKAGE).as_posix(), {})
        for line, contexts in data.contexts_by_lineno(file).items():
            place[str(line)] = sorted({name for name in {*place.get(str(line), []), *contexts} if name in known["seconds"]})
    FOLDER.mkdir(exist_ok=True)
    RECORD.write_text(json.dumps(known))
    print(f"{len(known['seconds'])} tests recorded, {len(failed)} left out as they fail or are skipped")


def tests_for(mutant: Mutant, known: dict[str, dict[str, object]]) -> tuple[list[str], float]:
    """The tests to run on a mutant, and the seconds that they should take: those that run most of the lines around, and the quickest."""
    seconds: dict[str, float] = known["seconds"]  # type: ignore[assignment]
    lines: dict[str, list[str]] = known["lines"].get(mutant.file, {})  # type: ignore[assignment]
    stem = Path(mutant.file).stem
    own = [name for name in seconds if re.search(rf"test_{stem}[a-z_]*\.py", name)]
    candidates = set(lines.get(str(mutant.line), ())) or {name for names in lines.values() for name in names} | set(own)
    chosen: dict[str, list[str]] = defaultdict(list)
    total = 0.0
    around = range(mutant.line - NEAR, mutant.line + NEAR + 1) if lines.get(str(mutant.line)) else _uses(mutant) or lines
    near = Counter([*own, *(name for line in around for name in lines.get(str(line), ()))])

    def worth(name: str) -> tuple[float, str]:
        return -(near[name] ** 2) / max(seconds[name], 0.05), name

    for name in sorted(candidates, key=worth):
        if total + seconds[name] <= BUDGET or not chosen:
            chosen[name.partition("::")[0]].append(name)
            total += seconds[name]

    def cost(file: str) -> tuple[bool, float]:
        return not set(chosen[file]) & set(own), sum(seconds[name] for name in chosen[file]) / len(chosen[file])

    return [name for file in sorted(chosen, key=cost) for name in chosen[file]], total


def _uses(mutant: Mutant) -> list[int]:
    """The lines that use the constants that the mutant's line defines, when the module is imported."""
    rows = mutant.source.splitlines()
    defined = re.match(r"[A-Z0-9_, ]+(?==|: )", rows[mutant.line - 1])
    names = re.findall(r"\w+", defined[0]) if defined else []
    return [number for number, row in enumerate(rows, 1) if number != mutant.line and any(re.search(rf"\b{name}\b", row) for name in names)]


def attempt(mutant: Mutant, tests: list[str], expected: float, copy: Path) -> Outcome:
    """Run tests on a copy of the package with the change."""
    place = copy / "redecode" / mutant.file
    original = place.read_bytes()
    began = time.monotonic()

    def forget() -> None:
        for compiled in (place.parent / "__pycache__").glob(f"{place.stem}.*"):
            compiled.unlink()

    place.write_text(mutant.source, encoding="utf-8")
    forget()
    code: int | None = 0
    with tempfile.TemporaryFile("w+") as told:
        try:
            # Most are caught by the tests of the module itself; to collect the others takes longer than to run those.
            files = list(dict.fromkeys(name.partition("::")[0] for name in tests))
            for some in filter(None, (files[:2], files[2:])):
                chosen = [name for name in tests if name.partition("::")[0] in some]
                if (code := _run(chosen, copy, told.fileno(), SLOWER * expected + PATIENCE)) != 0:
                    break
        finally:
            place.write_bytes(original)
            forget()
        told.seek(0)
        found = re.search(r"^(?:FAILED|ERROR) (\S+)", told.read(), re.MULTILINE)
    by = "time" if code is None else "" if code == 0 else found[1] if found else f"exit code {code}"
    return Outcome(mutant.name, mutant.line, "caught" if by else "survived", by, len(tests), round(time.monotonic() - began, 1))


def _run(tests: list[str], copy: Path, told: int, limit: float) -> int | None:
    """pytest's exit code, or None where it takes longer; in a child of this process, where libraries need not be imported once more."""
    child = os.fork()
    if child:
        ended = os.pidfd_open(child)
        late = not select.select([ended], [], [], limit)[0]
        os.close(ended)
        # With what it has started.
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return None if late else code
    try:
        os.setsid()
        os.dup2(told, 1)
        os.dup2(told, 2)
        os.chdir(ROOT)
        os.environ["PYTHONPATH"] = str(copy)
        sys.path.insert(0, str(copy))
        code = pytest.main(["-x", "-q", "-rfE", "--tb=no", "-p", "no:cacheprovider", *tests])
        sys.stdout.flush()
    except BaseException as error:
        os.write(told, f"ERROR {type(error).__name__}:{error}\n".encode())
        code = 99
    os._exit(code)


def reason(name: str, known: dict[str, str] = EQUIVALENT) -> str | None:
    """What is known of a mutant, EQUIVALENT or UNTESTED; None for nothing."""
    return next((why for pattern, why in known.items() if re.match(pattern, name)), None)


def write(drawn: list[Mutant], outcomes: dict[str, Outcome], command: str) -> str:
    """Write what is known of the drawn mutants; returns it in a line."""
    told = [outcomes[mutant.name] for mutant in drawn if mutant.name in outcomes]
    missed = [(outcome, reason(outcome.name)) for outcome in told if outcome.outcome != "caught"]
    equivalent = [(outcome, why) for outcome, why in missed if why]
    survived = [outcome for outcome, why in missed if not why]
    caught = len(told) - len(equivalent) - len(survived)
    share = caught / max(1, caught + len(survived))
    record = {
        "command": command,
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
        ).stdout.strip(),
        "mutants": len(told),
        "caught": caught,
        "caught_share": round(share, 4),
        "survived": [{"mutant": outcome.name, "line": outcome.line, "reason": reason(outcome.name, UNTESTED)} for outcome in survived],
        "equivalent": [{"mutant": outcome.name, "line": outcome.line, "reason": why} for outcome, why in equivalent],
    }
    RESULT.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return f"{len(told)} mutants: {caught} caught, {len(survived)} survived, {len(equivalent)} equivalent: {share:.1%}"


def main() -> None:
    """Record, or draw mutants, run the tests on each, and write what became of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--record", nargs="*", metavar="TESTS", help="run these tests once, or all, to know which lines they run")
    parser.add_argument("--marks", default="not slow and not browser and not cluster", help="of the tests to record")
    parser.add_argument("--count", type=int, default=300, help="how many mutants")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--again", action="store_true", help="try those once more that survived")
    arguments = parser.parse_args()
    if arguments.record is not None:
        record(arguments.record or [str(ROOT / "tests")], arguments.marks)
        return
    known = json.loads(RECORD.read_text())
    files = [path for room in ROOMS for path in ([PACKAGE / room] if room.endswith(".py") else sorted((PACKAGE / room).rglob("*.py")))]
    everything = [mutant for path in files if path.relative_to(PACKAGE).as_posix() not in LEFT_OUT for mutant in mutants(path)]
    drawn = random.Random(arguments.seed).sample(everything, min(arguments.count, len(everything)))
    outcomes: dict[str, Outcome] = {}
    if JOURNAL.exists():
        outcomes = {outcome.name: outcome for outcome in (Outcome(**json.loads(line)) for line in JOURNAL.read_text().splitlines())}
    if arguments.again:
        outcomes = {name: outcome for name, outcome in outcomes.items() if outcome.outcome == "caught" or reason(name)}
    # Plugins of pytest are not asked for, and take a second to load.
    os.environ |= {"ORT_DISABLE_TELEMETRY": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    for library in LIBRARIES:
        import_module(library)
    command = f"python bench/mutate.py --count {arguments.count} --seed {arguments.seed}"
    with tempfile.TemporaryDirectory(prefix="redecode-mutant-") as folder, open(JOURNAL, "a", encoding="utf-8") as journal:
        shutil.copytree(PACKAGE, Path(folder, "redecode"), ignore=shutil.ignore_patterns("__pycache__"))
        for mutant in drawn:
            if mutant.name not in outcomes:
                outcome = outcomes[mutant.name] = attempt(mutant, *tests_for(mutant, known), Path(folder))
                journal.write(json.dumps(asdict(outcome), ensure_ascii=False) + "\n")
                journal.flush()
                print(f"{outcome.outcome} ({outcome.seconds:.0f} s, {outcome.by}): {outcome.name}", flush=True)
                write(drawn, outcomes, command)
    print(write(drawn, outcomes, command))


if __name__ == "__main__":
    main()
