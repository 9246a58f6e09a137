"""The job `embed`, to submit: `ray job submit --working-dir . -- python jobs/embed.py RECIPE`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from audioflow.cli import main

if __name__ == "__main__":
    main(["embed", *sys.argv[1:]])
