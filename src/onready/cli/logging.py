"""structlog, for nodes that use it: their lines say which node they are from.

Only the command line sets this up, and only where the user's code has imported structlog and left
it as it is.

Rule of this room: structlog is never imported here first.
"""

from __future__ import annotations

import sys


def name_nodes_in_logs() -> None:
    """Have structlog write plain lines to stderr, with run, node and attempt, secrets masked."""
    if "structlog" not in sys.modules:
        return
    import structlog

    from onready.engine.context import add_node_context
    from onready.engine.masking import mask_event

    if structlog.is_configured():
        return
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            add_node_context,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.dev.ConsoleRenderer(colors=False),
            mask_event,
        ],
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
