"""Fisher information of trained models:

    python tools/fisher.py CHECKPOINT... --data DATA... -o fisher.h5 [--plot fisher.png]

Serial, or under mpiexec -n RANKS. Checkpoints are checkpoint.h5 (with the filter's P, which is then compared)
or best.h5; the members of an ensemble make a group:

    python tools/fisher.py 'runs/ekf/*/checkpoint.h5' 'runs/adam/*/checkpoint.h5'
        --data dense.h5 -o fisher.h5 --plot fisher.png
"""

import argparse
import sys
from pathlib import Path

from mpnnp import environment

environment.prepare()  # before anything imports numpy

from mpnnp.analysis import fisher_report  # noqa: E402
from mpnnp.parallel import on_root, stop_all, world  # noqa: E402
from mpnnp.progress import Log  # noqa: E402
from mpnnp.training.run_groups import find_groups  # noqa: E402


def read_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoints", nargs="*", metavar="CHECKPOINT", help="checkpoint, or pattern")
    parser.add_argument(
        "--group",
        action="append",
        default=[],
        metavar="NAME=CHECKPOINT,...",
        help="a group of models by name",
    )
    parser.add_argument("--data", nargs="+", required=True, help="labelled structures over which is averaged")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="fisher.h5")
    parser.add_argument("--plot", type=Path, metavar="PNG")
    parser.add_argument(
        "--batches",
        type=int,
        default=4096,
        help="batches of each kind of label; of single energies at most all (default 4096)",
    )
    parser.add_argument(
        "--single", action="store_true", help="single labels instead of batches of the run's schedule"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the batches")
    return parser.parse_args()


def main():
    arguments, comm = read_arguments(), world()
    try:
        run(arguments, comm, Log(comm))
    except (Exception, KeyboardInterrupt) as error:
        sys.exit(stop_all(comm, error))


def run(arguments, comm, log):
    analysis = fisher_report.Analysis()
    for group, paths in on_root(comm, find_groups, arguments.checkpoints, arguments.group).items():
        for path in paths:
            log(f"{group}: {path}")
            folder = arguments.output.resolve().parent
            model = fisher_report.analyse(
                path,
                group,
                arguments.data,
                folder,
                comm,
                log,
                arguments.batches,
                arguments.single,
                arguments.seed,
            )
            analysis.models.append(model)
    if comm.rank == 0:
        fisher_report.write(arguments.output, analysis)
        if arguments.plot:
            fisher_report.draw(arguments.plot, analysis)
        log(fisher_report.table(analysis))


if __name__ == "__main__":
    main()
