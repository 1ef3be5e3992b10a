"""The project's code. Importing any of it first looks at the Python that does so: DVC starts whichever is on PATH.

Standard library alone, and the syntax of any Python 3, so that a line comes in place of a traceback.
"""

import sys
from importlib.util import find_spec

_PACKAGES = ("psutil", "pydantic", "ruamel", "safetensors", "torch")
"""Where one of these is missing, the environment is another than the project's."""


def find_fault() -> "str | None":
    """Why this Python cannot run the project; None: it can."""
    environment = "activate the project's environment, `source .venv/bin/activate` (`make setup` makes it)"
    if sys.platform not in ("linux", "darwin"):
        return f"{sys.platform} is not supported; supported are Linux, macOS and, on Windows, WSL 2"
    if sys.implementation.name != "cpython" or sys.version_info < (3, 11):
        name, version = sys.implementation.name, ".".join(map(str, sys.version_info[:2]))
        return f"CPython 3.11 or newer is needed, and {sys.executable} is {name} {version}: {environment}"
    if sys.flags.optimize:  # a solve of torchdiffeq would never end
        return "python -O and PYTHONOPTIMIZE drop assertions, by which torchdiffeq tells errors: run without them"
    missing = [package for package in _PACKAGES if find_spec(package) is None]
    if missing:
        return f"{sys.executable} has no package {missing[0]}: {environment}"
    return None


_fault = find_fault()
if _fault is not None:
    sys.exit(f"error: {_fault}")
