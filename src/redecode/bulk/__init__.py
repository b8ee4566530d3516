"""Archives: restore 10² … 10⁹ files between folders and object stores, with the processes of one machine or the actors of a Ray cluster.

`stores` reads and writes places, `listing` finds what is there, `manifest` knows what was done, `lock` keeps runs apart, `restorer` deals
with one file, `local` and `cluster` distribute, and `run` holds it all together. docs/archives.md tells the reasons.
"""
