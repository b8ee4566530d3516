"""`python -m redecode` is the command `redecode`."""

from redecode.cli.main import main

if __name__ == "__main__":
    main()
