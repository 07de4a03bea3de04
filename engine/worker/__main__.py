"""`python -m onready.engine.worker ENVELOPE`: the one-node command without the command line.

Rule of this room: nothing but the start.
"""

from __future__ import annotations

import sys

from onready.engine.worker.single import main

sys.exit(main(sys.argv[1:]))
