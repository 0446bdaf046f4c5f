"""Picture and table of the equations of state of a group: python eos.py DATA RUNS/GROUP OUT

That of the truth is drawn with them. Writes OUT.csv, OUT.png, OUT.pdf.
"""

import sys
from pathlib import Path

from members import curve_of

from mpnnp.commands.analysis import write_results
from mpnnp.figures import figure
from mpnnp.progress import Log
from mpnnp.simulation import equation_of_state as analysis


def main(data, group, out):
    log = Log()
    folders = [Path(data) / "truth", *sorted(Path(group).glob("seed-*"))]
    curves = [curve for folder in folders if (curve := curve_of(folder, log))]
    for curve in curves:
        log(str(curve))
    if curves:
        picture, axes = figure(1)
        analysis.draw(axes[0], curves)
        write_results(out, analysis.columns(curves), picture, log)


if __name__ == "__main__":
    main(*sys.argv[1:])
