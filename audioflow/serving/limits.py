"""What a server accepts, and how long it takes for it."""

from dataclasses import dataclass

MB = 10**6


@dataclass(frozen=True)
class Limits:
    """Bounds of one server.

    max_body_bytes: of a request. max_duration_s: of what it holds. timeout_s: from its first byte
    to the answer. max_waiting: requests that are in hand at once; more are refused. decoders: child
    processes that decode side by side, each with decode_memory_gb of memory. max_batch: requests
    whose patches go through the backbone together; batch_wait_s: how long one waits for others.
    """

    max_body_bytes: int = 25 * MB
    max_duration_s: float = 300.0
    timeout_s: float = 60.0
    max_waiting: int = 64
    decoders: int = 2
    decode_memory_gb: float = 2.0
    max_batch: int = 16
    batch_wait_s: float = 0.0

    @property
    def decode_timeout_s(self) -> float:
        """How long a decoder may give no sign: what hangs has an answer of its own before the time
        of its request is over."""
        return self.timeout_s / 2
