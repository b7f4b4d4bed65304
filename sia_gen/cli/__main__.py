"""Runs `sia-gen` as a module: `python -m sia_gen.cli`."""

from sia_gen.cli.main import main

if __name__ == "__main__":
    main()
