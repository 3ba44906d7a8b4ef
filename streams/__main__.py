"""`python -m streams` is `streams`."""

from streams.cli import main

main()
