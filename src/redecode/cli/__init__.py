"""The command line: `redecode` and its subcommands, one module each. Nothing heavy is imported before there is work."""
