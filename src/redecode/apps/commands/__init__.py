"""The subcommands, one module each but for those of developers. Nothing heavy is imported before there is work."""
