"""The job `tune`, to submit: `ray job submit --working-dir . -- python jobs/tune.py RECIPE`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from audioflow.cli import main

if __name__ == "__main__":
    main(["tune", *sys.argv[1:]])
