"""`python -m polyfuse`: the commands of cli.py."""

from polyfuse.cli import main

if __name__ == "__main__":
    main(prog_name="polyfuse")
