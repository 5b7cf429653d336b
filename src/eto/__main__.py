"""`python -m eto` is the `eto` command."""

from eto.cli import main

main()
