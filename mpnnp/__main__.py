from mpnnp.cli import main

main()
