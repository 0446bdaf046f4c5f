"""Make a large data set for tests of speed and memory:

    python tools/make_perturbed_set.py N OUT.h5 [--source FILE] [--sigma A] [--seed N]

N structures, the frames of the example data in turn, with every atom displaced at random. The labels are
those of the undisplaced frames: a potential trained on them is of no use.
"""

import argparse

from benchmarking.perturbed import EXAMPLE, displaced, example

from mpnnp.data import dataset


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("n", type=int, metavar="N", help="number of structures")
    parser.add_argument("out", metavar="OUT.h5")
    parser.add_argument(
        "--source", default=EXAMPLE, help="data set that is perturbed; default: the example data"
    )
    parser.add_argument(
        "--sigma",
        type=float,
        default=0.02,
        help="standard deviation of each coordinate's displacement, Angstrom",
    )
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    data = displaced(example(arguments.source), arguments.n, arguments.sigma, arguments.seed)
    dataset.write(arguments.out, data)
    print(f"{arguments.out}: {len(data)} structures, {data.start[-1]} atoms, labels copied (unphysical)")


if __name__ == "__main__":
    main()
