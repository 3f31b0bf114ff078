"""`polyfuse bench`: options in; a table, files and an exit status out."""

from pathlib import Path
from typing import Any

import click
import onnx

from polyfuse.bench.peers.contender import Contender, peers_named
from polyfuse.bench.peers.models import network_and_model
from polyfuse.bench.peers.ours import Configuration
from polyfuse.bench.peers.race import RaceRules, race, shared_settings
from polyfuse.bench.peers.results import PeerComparison, PeerReport
from polyfuse.bench.probe import probe
from polyfuse.choices import RaceLayout
from polyfuse.cli.actions.request import origin_asked, workload_of
from polyfuse.deploy.host import host_facts
from polyfuse.errors import PolyfuseError
from polyfuse.files import check_writable
from polyfuse.machines.host import Machine, machine_path, read_machine
from polyfuse.network.network import Network
from polyfuse.progress import Progress
from polyfuse.report.peers import print_peers
from polyfuse.report.progress import ProgressBar
from polyfuse.report.roofline import plot_peers


def act(
    peers: str,
    strategies: tuple[str, ...],
    exact: bool,
    threads: int,
    layout: RaceLayout,
    repeats: int,
    search_seconds: float,
    machine_file: Path | None,
    json_file: Path | None,
    picture: Path | None,
    **request: Any,
) -> None:
    """Race polyfuse on WORKLOADs against the tools that are installed."""
    contenders = contenders_of(peers, strategies, exact, threads)
    for path in filter(None, (json_file, picture)):
        check_writable(path)
    workloads = workloads_of(request)
    rules = RaceRules(threads, layout, repeats, search_seconds=search_seconds)
    with ProgressBar() as progress:
        machine = machine_for(machine_file, progress)
        found = tuple(
            race(network, contenders, machine, rules, model=model, progress=progress) for network, model in workloads
        )
    print_peers(found)
    if machine_file is None and not machine_path().exists():
        click.echo("peak and bandwidths were measured just now; polyfuse machine --probe keeps them in a file")
    if json_file is not None:
        PeerReport(host_facts(), found, shared_settings(rules)).write_json(json_file)
    if picture is not None and any(comparison.timed for comparison in found):
        plot_peers(found, picture)
    check_found(found)


def contenders_of(peers: str, strategies: tuple[str, ...], exact: bool, threads: int) -> tuple[Contender, ...]:
    """polyfuse with each strategy that was asked for, then the peers.

    Errors: InvalidInput for a peer that there is none of.
    """
    chosen = dict.fromkeys(strategies)
    own = [Configuration(name, exact_arithmetic=exact, threads=threads).contender() for name in chosen]
    return (*own, *peers_named(peers))


def workloads_of(request: dict[str, Any]) -> list[tuple[Network, onnx.ModelProto | None]]:
    """All workloads, read before anything is measured; of models as wholes, the models themselves."""
    origins = [origin_asked({**request, "workload": name}) for name in request["workloads"]]
    return [network_and_model(workload_of(origin)) for origin in origins]


def machine_for(file: Path | None, progress: Progress) -> Machine:
    """The machine file that was named, or that of the user; without one this host is measured."""
    if file is not None or machine_path().exists():
        return read_machine(file)
    return probe(progress=progress)


def check_found(found: tuple[PeerComparison, ...]) -> None:
    """Refuse a wrong result of polyfuse, and a race in which nothing was timed, once it is printed.

    Errors: PolyfuseError.
    """
    for comparison in found:
        own = [row for row in comparison.rows if not row.is_peer and row.state == "wrong"]
        if own:
            raise PolyfuseError(f"{comparison.workload}: {own[0].message}; this is a polyfuse bug, please report it")
        if not comparison.timed:
            raise PolyfuseError(f"{comparison.workload}: no contender could be timed; the lines above say why")
