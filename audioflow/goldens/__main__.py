"""`python -m audioflow.goldens BACKBONE ...`: compute golden vectors anew."""

import importlib
import sys

from audioflow.goldens import Golden, save

for name in sys.argv[1:]:
    script = importlib.import_module(f"audioflow.goldens.{name}")
    save(name, [Golden(case, script.reference(case)) for case in script.CASES])
