"""What this machine has: processor, memory, disk and GPUs."""

import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

_FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")
"""Instructions that decide how fast a network is on a processor."""

_NO_LIMIT = 2**60


@dataclass(frozen=True)
class Gpu:
    """A GPU that torch sees."""

    name: str
    memory_bytes: int
    capability: str


@dataclass(frozen=True)
class Machine:
    """cores: of the machine; usable_cores: that this process may use. disks: folder -> bytes."""

    system: str
    processor: str
    features: tuple[str, ...]
    cores: int
    usable_cores: float
    memory_bytes: int
    available_bytes: int
    disks: dict[str, int] = field(default_factory=dict)
    gpus: tuple[Gpu, ...] = ()
    driver: str = ""


def machine() -> Machine:
    """What is there now."""
    facts = _first_processor()
    flags = facts.get("flags", facts.get("Features", "")).split()
    memory, available = _memory()
    gpus = _gpus()
    return Machine(
        system=platform.platform(),
        processor=facts.get("model name", platform.processor() or platform.machine()),
        features=tuple(name for name in _FEATURES if name in flags),
        cores=os.cpu_count() or 1,
        usable_cores=_usable_cores(),
        memory_bytes=memory,
        available_bytes=available,
        disks=_disks(),
        gpus=gpus,
        driver=_driver() if gpus else "",
    )


def _first_processor() -> dict[str, str]:
    found: dict[str, str] = {}
    for line in _text("/proc/cpuinfo").splitlines():
        name, colon, value = line.partition(":")
        if not colon:
            break
        found[name.strip()] = value.strip()
    return found


def _usable_cores() -> float:
    """Those that this process may run on, and no more than its container's share of time."""
    here = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))(0)
    quota, _, period = _text("/sys/fs/cgroup/cpu.max").strip().partition(" ")
    share = int(quota) / int(period) if quota.isdigit() and period.isdigit() else len(here)
    return min(float(len(here)), round(share, 2))


def _memory() -> tuple[int, int]:
    """Bytes in all and bytes available, no more than the container's limit."""
    facts = {}
    for line in _text("/proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        facts[name] = int(value.split()[0]) * 1024
    page = os.sysconf("SC_PAGE_SIZE")
    total = facts.get("MemTotal", os.sysconf("SC_PHYS_PAGES") * page)
    available = facts.get("MemAvailable", total)
    for folder, names in (
        ("/sys/fs/cgroup", ("memory.max", "memory.current")),
        ("/sys/fs/cgroup/memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")),
    ):
        limit, used = (_text(f"{folder}/{name}").strip() for name in names)
        if limit.isdigit() and used.isdigit() and int(limit) < _NO_LIMIT:
            total = min(total, int(limit))
            available = min(available, int(limit) - int(used))
    return total, max(0, available)


def _disks() -> dict[str, int]:
    """Free bytes where the runs, temporary files and Ray's objects go."""
    folders = dict.fromkeys((str(Path.cwd()), tempfile.gettempdir(), "/dev/shm"))  # noqa: S108
    return {folder: shutil.disk_usage(folder).free for folder in folders if Path(folder).is_dir()}


def _gpus() -> tuple[Gpu, ...]:
    import torch

    found = []
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        of = torch.cuda.get_device_properties(number)
        found.append(Gpu(of.name, of.total_memory, f"{of.major}.{of.minor}"))
    return tuple(found)


def _driver() -> str:
    """The version of NVIDIA's driver; "" where it does not say."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    asked = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.partition("\n")[0].strip()


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
