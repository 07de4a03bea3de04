"""`python -m onready`: the same as the command `onready`.

Rule of this room: nothing else.
"""

from onready.cli import main

main()
