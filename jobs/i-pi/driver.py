"""Energies, forces and virials of a potential for i-PI, over its socket:

    python driver.py POTENTIAL STRUCTURE --unix NAME

POTENTIAL  checkpoint or folder of n2p2 files;  STRUCTURE  any file of ASE, whose first
frame has the atoms in i-PI's order
"""

import argparse

from ase.calculators.socketio import SocketClient
from ase.io import read

import mpnnp

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("potential")
parser.add_argument("structure")
parser.add_argument("--unix", help="name of a UNIX socket (mode='unix', address of i-PI's ffsocket)")
parser.add_argument("--host", default="localhost", help="host of i-PI (mode='inet')")
parser.add_argument("--port", type=int, default=31415)
arguments = parser.parse_args()

atoms = read(arguments.structure, index=0)  # the frame that i-PI begins with
atoms.calc = mpnnp.Calculator(arguments.potential)
place = {"unixsocket": arguments.unix} if arguments.unix else {"host": arguments.host, "port": arguments.port}
SocketClient(**place).run(atoms, use_stress=atoms.pbc.all())
