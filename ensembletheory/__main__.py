"""`python -m ensembletheory` is the command line."""

from ensembletheory.cli import main

main()
