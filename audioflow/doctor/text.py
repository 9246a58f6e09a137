"""What the doctor found, in words: sections of rows, and the problems with what to do."""

import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from audioflow.doctor.kept import KeptWeights
from audioflow.doctor.machine import Machine
from audioflow.doctor.packages import Packages
from audioflow.doctor.reach import Reached
from audioflow.goldens import BFLOAT16_COSINE, FLOAT32_ERROR
from audioflow.redaction import masked

if TYPE_CHECKING:  # it needs torch, which takes seconds to load
    from audioflow.doctor.vectors import Measured

_KIB = 1024
_SHOWN_WEIGHTS = 12
_NOT_COMPILED = (
    "PYTHONDONTWRITEBYTECODE is set and the packages have no bytecode: every worker compiles what "
    "it imports, which takes seconds each; unset it, or once: python -m compileall -q -j 0 "
    f"{sysconfig.get_path('purelib')}"
)
OBJECT_STORE_SHARE = 0.3
"""Of the memory at hand: what Ray takes for objects where nothing is said."""


@dataclass(frozen=True)
class Section:
    """Rows under a title; without columns, a name and a text each."""

    title: str
    rows: Sequence[Sequence[str]]
    columns: Sequence[str] = ()
    notes: Sequence[str] = field(default_factory=tuple)


def plain_lines(section: Section) -> list[str]:
    """A section as aligned lines."""
    rows = [list(section.columns), *map(list, section.rows)] if section.columns else section.rows
    count = max((len(row) for row in rows), default=0)
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(count)]
    lines = [section.title]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append(("  " + "  ".join(cells)).rstrip())
    return [*lines, *(f"  {note}" for note in section.notes)]


def size(count: float) -> str:
    """Bytes as a person reads them: 12.3 GiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < _KIB:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= _KIB
    return f"{count:.1f} TiB"


def package_section(found: Packages) -> Section:
    rows = []
    for name, version in found.versions.items():
        detail = found.broken.get(name) or found.details.get(name, "")
        rows.append([name, version or "missing", detail])
    rows.append(["ffmpeg program", found.details["ffmpeg program"]])
    has = [name for name, there in found.extras.items() if there]
    lacks = [f"'audioflow[{name}]'" for name, there in found.extras.items() if not there]
    notes = [f"extras installed: {', '.join(has) or 'none'}"]
    if lacks:
        notes.append(f"others: pip install {' '.join(lacks)}")
    if not found.compiled:
        notes.append(_NOT_COMPILED)
    return Section("packages", rows, notes=notes)


def machine_section(found: Machine) -> Section:
    features = f" ({', '.join(found.features)})" if found.features else ""
    cores = f"{found.cores}, {found.usable_cores:g} of them for this process"
    memory = f"{size(found.memory_bytes)}, {size(found.available_bytes)} available"
    rows = [
        ["system", found.system],
        ["processor", found.processor + features],
        ["cores", cores],
        ["memory", memory],
        *([f"free in {folder}", size(free)] for folder, free in found.disks.items()),
    ]
    for number, gpu in enumerate(found.gpus):
        text = f"{gpu.name}, {size(gpu.memory_bytes)}, capability {gpu.capability}"
        rows.append([f"GPU {number}", text])
    rows.append(["driver", found.driver or "unknown"] if found.gpus else ["GPU", "none"])
    return Section("machine", rows)


def local_ray_text(found: Machine) -> str:
    """What a Ray that a job starts here would have."""
    store = min(OBJECT_STORE_SHARE * found.available_bytes, found.disks.get("/dev/shm", 2**60))  # noqa: S108
    parts = [f"{found.usable_cores:g} CPU", f"{len(found.gpus)} GPU"]
    return f"{', '.join(parts)}, about {size(store)} for objects"


def golden_section(found: Sequence["Measured"], without: Sequence[str]) -> Section:
    rows = [
        [
            each.backbone,
            each.case,
            each.device,
            each.precision,
            "-" if each.error is None else f"{each.error:.1e}",
            "-" if each.cosine is None else f"{each.cosine:.6f}",
            f"{each.seconds:.1f}",
            f"{each.verdict}: {each.reason}" if each.reason else each.verdict,
        ]
        for each in found
    ]
    columns = "backbone case device precision error cosine s verdict".split()
    notes = [
        f"limits: float32 error {FLOAT32_ERROR:g} of the largest value (without TF32); bfloat16 "
        f"cosine {BFLOAT16_COSINE}"
    ]
    if without:
        notes.append(f"no golden vectors: {', '.join(without)}")
    return Section("golden vectors", rows, columns, notes)


def store_section(found: Sequence[Reached]) -> Section:
    rows = []
    for each in found:
        steps = ", ".join(f"{step} {ms:.0f} ms" for step, ms in each.ms.items())
        verdict = f"FAIL: {each.problem}" if each.problem else "ok"
        url = masked(each.place.url)
        rows.append([each.place.key, each.place.use, url, steps or "-", verdict])
    return Section("stores", rows, ["from", "use", "url", "answered in", "verdict"])


def weights_section(folder: str, found: Sequence[KeptWeights]) -> Section:
    rows = [
        [each.name, size(each.size_bytes), ", ".join(each.backbones)]
        for each in found[:_SHOWN_WEIGHTS]
    ]
    notes = [f"in {folder}; all that are known, and how to get them: audioflow weights list"]
    if len(found) > _SHOWN_WEIGHTS:
        notes.insert(0, f"and {len(found) - _SHOWN_WEIGHTS} more")
    return Section("weights", rows or [["none fetched yet", ""]], notes=notes)
