"""Runs the command line: `python -m stenolog`."""

from stenolog.cli import main

if __name__ == "__main__":
    main()
