"""What the worker processes of a local Ray import as they start, while it is still starting.

The work that they will be given needs it, and torch alone takes a second.
"""

import torch

import audioflow.engine.embed_worker  # noqa: F401

# Ray says so to a process when it gives it work, which is too late for a torch that is there.
torch.set_num_threads(1)
