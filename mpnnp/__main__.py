"""python -m mpnnp: the same as the command mpnnp."""

from mpnnp.cli import main

main()
