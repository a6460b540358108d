"""`python -m calig`."""

from calig.cli import main

main()
