"""Archives: restore 10² … 10⁹ files between folders and object stores, with the processes of one machine or the actors of a Ray cluster.

`stores` reads and writes folders and object stores, `listing` lists input files, `manifest` records finished files, `lock` prevents two
runs in one output, `restorer` restores one file, `local` and `cluster` distribute the work, and `run` ties them together.
docs/archives.md gives the reasons.
"""
