"""The plan: the checked, frozen form of a graph, and all that is done with it before it runs.

`model` holds the data, `compile` makes it from a graph, `inputs` reads a run's inputs,
`fingerprint` hashes it, `dump` writes and reads it, `link` imports its functions, `view` and
`drawing` show it.

Rule of this room: knows nothing of how a plan is run.
"""
