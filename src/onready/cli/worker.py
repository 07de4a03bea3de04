"""`onready execute-single-node`: one attempt, in a process of its own.

Rule of this room: finds the envelope and hands over to the engine's worker.
"""
