"""The job `train`, to submit: `ray job submit --working-dir . -- python jobs/train.py RECIPE`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from audioflow.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
