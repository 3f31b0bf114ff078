"""`polyfuse tune`: options in, a table and files out."""

import json
from pathlib import Path
from typing import Any

import click

from polyfuse.bench.compare import ready_to_build
from polyfuse.bench.tune import Tuner
from polyfuse.choices import LONGEST
from polyfuse.cli.actions.request import origin_asked, workload_of
from polyfuse.codegen.build import Options
from polyfuse.codegen.lower.selection import Interface
from polyfuse.deploy.settings import Settings
from polyfuse.deploy.source import read_source
from polyfuse.deploy.tuned import FILE
from polyfuse.files import check_writable, make_folder, write_atomically
from polyfuse.machines.host import read_machine
from polyfuse.plan.planfile import Origin
from polyfuse.report.progress import ProgressBar
from polyfuse.report.tuning import print_tuned_groups, print_tuning
from polyfuse.typed_json import encode


def act(
    measured: int,
    threads: int,
    layout: Interface,
    exact: bool,
    path: Path | None,
    json_file: Path | None,
    **request: Any,
) -> None:
    """Find the fastest tile, retention and algorithms for a WORKLOAD, and keep them for later runs."""
    if json_file is not None:
        check_writable(json_file)
    tuned = FILE.at(path)
    if path is None:
        make_folder(tuned.path.parent)
    check_writable(tuned.path)
    tuned.read()
    settings = Settings(
        interface=layout, threads=threads, exact=exact, machine=read_machine(), options=ready_to_build(Options())
    )
    origin = origin_asked(request)
    network = read_source(workload_of(origin)).network
    with ProgressBar() as progress:
        tuner = Tuner(settings, measured, path, progress)
        if len(network.layers) <= LONGEST:
            found = tuner.entry(network, described(origin))
            print_tuning(found)
            document: object = found
        else:
            groups = tuner.groups(network, described(origin))
            print_tuned_groups(groups)
            document = [each.entry for each in groups]
    click.echo(f"kept in {tuned.path}")
    if json_file is not None:
        write_atomically(json_file, (json.dumps(encode(document), indent=1) + "\n").encode())


def described(origin: Origin) -> str:
    """The workload as it was asked for, without folders: `net from conv1 to conv2 size=224 x=1x3x224x224`."""
    ends = [word for end, name in (("from", origin.first), ("to", origin.last)) if name for word in (end, name)]
    shapes = {name: "x".join(map(str, sizes)) for name, sizes in origin.shapes.items()}
    given = origin.parameters | shapes | origin.values
    return " ".join([Path(origin.path).stem, *ends, *(f"{name}={value}" for name, value in given.items())])
