"""`python -m redecode` is the command `redecode`."""

from redecode.apps.cli import main

if __name__ == "__main__":
    main()
