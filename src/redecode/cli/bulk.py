"""`redecode bulk`: restore archives of pictures on one machine or a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..options import Options
from .console import NOTHING_DONE, SOME_FAILED, complain, extra, reported, say

if TYPE_CHECKING:
    from ..bulk.run import Engine


def bulk(
    source: Annotated[
        str,
        typer.Argument(
            metavar="IN", show_default=False, help="A folder, a glob, a .zip or .tar archive, or the URL of one (s3://, gs://, ...)."
        ),
    ],
    output: Annotated[str, typer.Argument(metavar="OUT", show_default=False, help="A folder, or the URL of one.")],
    names: Annotated[
        Path | None,
        typer.Option("--list", metavar="FILE", help="Restore the files that this file lists: paths relative to IN, one per line."),
    ] = None,
    *,
    options: Options,
    workers: Annotated[int | None, typer.Option(min=1, show_default="one per core", help="Maximum number of workers.")] = None,
    ray_address: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Use the Ray cluster at this address: auto, host:port, or local.")
    ] = None,
    shard: Annotated[
        str, typer.Option(metavar="I/N", help="Restore only part I of N, for example to share the work among machines.")
    ] = "1/1",
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Retry files that failed in earlier runs.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Accept an OUT that is not empty.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count files and estimate the time; write nothing.")] = False,
) -> None:
    """Restore an archive of pictures. Run again with the same IN and OUT, it restores only missing, changed or new files."""
    with reported(), extra("bulk"):
        from ..bulk import listing, local, run, stores
        from ..bulk.names import CORNER
        from ..bulk.restorer import Setup
        from ..weights import load

        part = listing.Shard.parse(shard)
        selection = listing.select(source, names)
        setup = Setup(selection.root, output, options, 1, part.name)
        for name in setup.model():
            load(name, options.precision or "int8")
        plan = run.Plan(selection, setup, part, retry_failed, overwrite)
        if dry_run:
            say(run.estimate(plan, workers or local.cores()))
            return
        engine = _engine(ray_address, workers, stores.in_one_process(selection.root) or stores.in_one_process(output))
        meter = run.run(plan, engine)
    for message in meter.messages:
        complain(message)
    if meter.failed > len(meter.messages):
        complain(f"... and {meter.failed - len(meter.messages)} more; the manifest has all of them")
    say(meter.summary(), f"manifest: {output.rstrip('/')}/{CORNER}/{part.name}")
    if meter.failed or meter.failed_before:
        raise typer.Exit(SOME_FAILED if meter.done or meter.skipped else NOTHING_DONE)


def _engine(ray_address: str | None, workers: int | None, in_one_process: bool) -> Engine:
    from ..bulk import local

    if ray_address is not None:
        from ..bulk import cluster

        cluster.connect(ray_address)
        return lambda setup, windows: cluster.restore(setup, windows, workers)
    if in_one_process:
        return local.restore_here
    return lambda setup, windows: local.restore(setup, windows, workers)
