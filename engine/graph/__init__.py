"""What the user defines: tasks, graphs, refs, the builder, shell commands.

Rule of this room: knows nothing of plans and runs nothing. Every fault is a GraphError with a
code of `codes`, the user's file and line, and a cure.
"""

from onready.engine.graph.builder import GraphBuilder
from onready.engine.graph.choosing import branch, rescue, switch
from onready.engine.graph.definition import Bound, Definition
from onready.engine.graph.function import Graph, graph
from onready.engine.graph.markers import Provided, each
from onready.engine.graph.refs import Ref
from onready.engine.graph.repeating import repeat
from onready.engine.graph.secrets import Secret
from onready.engine.graph.shell import shell
from onready.engine.graph.task import AsyncTask, SyncTask, Task, task

__all__ = [
    "AsyncTask",
    "Bound",
    "Definition",
    "Graph",
    "GraphBuilder",
    "Provided",
    "Ref",
    "Secret",
    "SyncTask",
    "Task",
    "branch",
    "each",
    "graph",
    "repeat",
    "rescue",
    "shell",
    "switch",
    "task",
]
