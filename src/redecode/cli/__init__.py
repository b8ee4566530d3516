"""The command line: `redecode` and its subcommands, one module each. Slow imports happen only when a command runs."""
