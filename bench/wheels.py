"""Find the platforms and Python versions for which a locked package has no wheel, so that its installation needs a compiler.

    python bench/wheels.py

The script asks the package index for the files of every package in requirements/server.txt (the command, the Python API and the server),
and writes the table in docs/install.md.
"""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import parse_wheel_filename

ROOT = Path(__file__).parent.parent
INDEX = "https://pypi.org/simple"
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
# Platforms: name, sys_platform, platform_machine, and a pattern for the platform tags of wheels.
PLATFORMS = (
    ("Linux with glibc, x86-64", "linux", "x86_64", r"manylinux.*x86_64|linux_x86_64"),
    ("Linux with glibc, ARM64 (Graviton, Raspberry Pi, Docker on Apple silicon)", "linux", "aarch64", r"manylinux.*aarch64"),
    ("Linux with musl (Alpine), x86-64", "linux", "x86_64", r"musllinux.*x86_64"),
    ("Linux with musl (Alpine), ARM64", "linux", "aarch64", r"musllinux.*aarch64"),
    ("macOS, Apple silicon", "darwin", "arm64", r"macosx.*(arm64|universal2)"),
    ("macOS, Intel", "darwin", "x86_64", r"macosx.*(x86_64|universal2)"),
    ("Windows, x86-64", "win32", "AMD64", r"win_amd64"),
    ("Windows, ARM64", "win32", "ARM64", r"win_arm64"),
)


def locked() -> list[Requirement]:
    """The packages of the lock file, with their environment markers."""
    lines = (ROOT / "requirements" / "server.txt").read_text().splitlines()
    return [Requirement(line.rstrip(" \\")) for line in lines if re.match(r"[a-z0-9-]+==", line)]


def wheels(requirement: Requirement) -> list[str]:
    """File names of the wheels of a locked version."""
    request = urllib.request.Request(f"{INDEX}/{requirement.name}/", headers={"Accept": "application/vnd.pypi.simple.v1+json"})
    with urllib.request.urlopen(request) as answer:
        names = [file["filename"] for file in json.load(answer)["files"] if file["filename"].endswith(".whl")]
    return [name for name in names if requirement.specifier.contains(name.split("-")[1], prereleases=True)]


def fits(wheel: str, python: str, platform: str) -> bool:
    """Whether a wheel can be installed for a version of CPython on a platform, given by the pattern of its tags."""
    minor = int(python.split(".")[1])
    for tag in parse_wheel_filename(wheel)[3]:
        if tag.platform != "any" and not re.fullmatch(platform, tag.platform):
            continue
        kind, version = re.match(r"(cp|py)3?(\d*)", tag.interpreter).groups()  # type: ignore[union-attr]
        if kind == "py" or (version and int(version) == minor) or (tag.abi == "abi3" and int(version) <= minor):
            return True
    return False


def missing(platform: tuple[str, str, str, str], files: dict[str, list[str]]) -> dict[str, list[str]]:
    """Python versions for which packages have no wheel, by package."""
    _, system, machine, pattern = platform
    found: dict[str, list[str]] = {}
    for python in PYTHONS:
        environment = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": system, "platform_machine": machine}
        for requirement in locked():
            if requirement.marker and not requirement.marker.evaluate(environment):
                continue
            if not any(fits(wheel, python, pattern) for wheel in files[str(requirement)]):
                found.setdefault(requirement.name, []).append(python)
    return found


def main() -> None:
    """Write the table."""
    files = {str(requirement): wheels(requirement) for requirement in locked()}
    rows = ["| platform | packages without a wheel (CPython 3.10 to 3.14) |", "| :--- | :--- |"]
    for platform in PLATFORMS:
        lacking = missing(platform, files)
        cells = [name + ("" if len(pythons) == len(PYTHONS) else f" ({', '.join(pythons)})") for name, pythons in lacking.items()]
        rows.append(f"| {platform[0]} | {', '.join(cells) or 'none'} |")
    page = ROOT / "docs" / "install.md"
    before, rest = page.read_text().split("<!-- wheels -->\n")[0], page.read_text().split("<!-- /wheels -->")[1]
    page.write_text(f"{before}<!-- wheels -->\n" + "\n".join(rows) + f"\n<!-- /wheels -->{rest}")


if __name__ == "__main__":
    main()
