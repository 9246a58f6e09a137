"""Memory of processes, as Linux counts it; 0 where the system does not say."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


def peak_bytes(pid: int | str = "self") -> int:
    """The most memory (resident) that a process ever had, since `_forget_peak` for this one."""
    return _status(pid, "VmHWM")


def resident_bytes() -> int:
    """The memory (resident) that this process has now."""
    return _status("self", "VmRSS")


def _status(pid: int | str, key: str) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) * 1024
    return 0


def _forget_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


@dataclass
class Growth:
    """By how much this process grew while it loaded something, and at most while it worked."""

    before: int
    load_bytes: int = 0
    work_bytes: int = 0

    @classmethod
    def begin(cls) -> "Growth":
        return cls(resident_bytes())

    def loaded(self) -> None:
        """Say that it is loaded."""
        self.load_bytes = max(0, resident_bytes() - self.before)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Watch some work."""
        _forget_peak()
        before = resident_bytes()
        yield
        self.work_bytes = max(self.work_bytes, peak_bytes() - before)

    @property
    def total_bytes(self) -> int:
        return self.load_bytes + self.work_bytes
