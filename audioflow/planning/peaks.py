"""How much memory workers take at most, as it was measured: by this, nodes are chosen.

All figures are of clips of 5 to 10 s on the machine of benchmarks/README.md. Of an hour's sound a
part is in memory at a time, which takes up to 0.7 GB more; so do large pictures. The recipe's
`memory_gb` has the last word.
"""

_MB = 2**20

BASE_BYTES = 350 * _MB
"""A worker of Ray with torch and Arrow, before it has a backbone: 313 MB were seen."""

DECODE_BYTES = 300 * _MB
"""The child that decodes: 84 MB of sound, 112 MB of small videos were seen."""

PEAK_MB = {
    # As `audioflow plan` measured it in a process of its own, less what that has without it.
    "acoustic": 270,
    "color": 270,
    "logmel": 270,
    "mfcc_bof": 300,
    "quality": 270,
    # From all processes of `embed` with two workers: what is beyond those with logmel, by two.
    "musicnn": 520,
    "openl3": 2720,
    "resnet18": 820,
    "soundnet": 720,
    "vggish": 1070,
    "yamnet": 470,
}

USUAL_MB = 1000
"""For backbones that were not measured: larger networks, those of plug-ins and of files."""


def peak_bytes(backbone: str) -> int:
    """What a backbone takes at most of the memory of its worker, beside `BASE_BYTES`."""
    return PEAK_MB.get(backbone, USUAL_MB) * _MB
