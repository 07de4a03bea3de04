"""The testing kit: fakes, a manual clock, and a contract suite for each protocol.

For tests of onready, of plug-ins and of programs that embed the engine; product code never
imports it. The suites need pytest and anyio's plug-in for it, the rest nothing.

Rule of this room: everything here works for third parties: nothing of our own tests is imported.
"""

from __future__ import annotations

import sys

if "pytest" in sys.modules:  # not in the workers of a suite's attempts, which it would slow down
    import pytest

    # Before the import: failed assertions of a suite then say what they compared.
    for suite in ("backend_suite", "bulk_suite", "catalog_suite", "run_log_suite", "secret_suite"):
        pytest.register_assert_rewrite(f"onready.engine.testing.{suite}")

from onready.engine.testing.clock import ManualClock as ManualClock
from onready.engine.testing.fakes import FakeBackend as FakeBackend
from onready.engine.testing.fakes import FakePlatform as FakePlatform
from onready.engine.testing.fakes import RecordingReporter as RecordingReporter
from onready.engine.testing.fakes import Script as Script
