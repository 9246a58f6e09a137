"""audioflow: from folders or buckets of videos and audio to calibrated class scores, on Ray.

Importing the package does nothing. Start at `audioflow.cli` for the commands, at `audioflow.recipe`
for what a recipe may say, and at `audioflow.engine` for what runs on Ray.
"""

__version__ = "0.1.0"
