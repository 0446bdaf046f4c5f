"""Fisher information of trained models: `mpnnp fisher`, whose --data here takes several names.

    python tools/fisher.py CHECKPOINT... --data DATA... -o fisher.h5 [--plot fisher.png]

Serial, or under mpiexec -n RANKS. Checkpoints are checkpoint.h5 (with the filter's P, which is then compared)
or best.h5; the members of an ensemble make a group:

    python tools/fisher.py 'runs/ekf/*/checkpoint.h5' 'runs/adam/*/checkpoint.h5'
        --data dense.h5 -o fisher.h5 --plot fisher.png
"""

import sys

from mpnnp import cli


def with_each_data_named(words):
    """--data A B as --data A --data B."""
    result, inside = [], False
    for word in words:
        option = word.startswith("-")
        if not option and inside and result[-1] != "--data":
            result.append("--data")
        result.append(word)
        inside = word == "--data" or inside and not option
    return result


if __name__ == "__main__":
    sys.argv[1:] = ["fisher", *with_each_data_named(sys.argv[1:])]
    cli.main()
