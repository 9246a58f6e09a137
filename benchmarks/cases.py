"""What is measured: a backbone (or several), a kind of media, and how much of it."""

from dataclasses import dataclass

from alone import Choice

RANDOM = {"weights": "random"}


@dataclass(frozen=True)
class Case:
    """kind: of media, as in `corpus`. count: recordings. cpus: cores that everything may use.

    store: `s3` for media in a bucket, over HTTP. beside: recordings for the plain Ray script;
    files: for the way file by file; 0 where that is left out. most: patches at once. shard: clips
    per shard, less than usual where a backbone is so slow that few clips have to do.
    """

    name: str
    kind: str
    count: int
    choices: tuple[Choice, ...]
    cpus: int = 2
    store: str = "local"
    beside: int = 0
    files: int = 0
    num_gpus: float = 0.0
    most: int = 2**16
    shard: int | None = None


def _one(name: str, **options: object) -> tuple[Choice, ...]:
    return (Choice(name, options),)


_FOUR = (
    Choice("vggish", RANDOM),
    Choice("yamnet", RANDOM),
    Choice("musicnn", RANDOM),
    Choice("acoustic", {}),
)
_VGGISH = _one("vggish", **RANDOM)
_BFLOAT16 = _one("vggish", **RANDOM, precision="bfloat16")
_OPENL3 = _one("openl3", **RANDOM)
_RESNET = _one("resnet18", **RANDOM, num_frames=8)

CASES = (
    Case("vggish_mp4_5s", "mp4_5s", 2000, _VGGISH, beside=400, files=40),
    Case("vggish_mp4_5s_bfloat16", "mp4_5s", 2000, _BFLOAT16, beside=400, files=40),
    Case("vggish_mp4_5s_1cpu", "mp4_5s", 500, _VGGISH, cpus=1, beside=200, files=20),
    Case("vggish_mp4_5s_s3", "mp4_5s", 1000, _VGGISH, store="s3"),
    Case("vggish_mp4_10s", "mp4_10s", 800, _VGGISH, beside=200, files=20),
    Case("vggish_wav_5s", "wav_5s", 1500, _VGGISH, beside=400, files=40),
    Case("vggish_wav_1h", "wav_1h", 6, _VGGISH),
    Case("acoustic_mp4_5s", "mp4_5s", 4000, _one("acoustic"), beside=1000, files=60),
    Case("acoustic_mp4_1h", "mp4_1h", 12, _one("acoustic")),
    Case("logmel_mp4_5s", "mp4_5s", 4000, _one("logmel"), beside=1000, files=60),
    Case("soundnet_mp4_10s", "mp4_10s", 1000, _one("soundnet", **RANDOM), beside=200, files=20),
    Case("openl3_mp4_5s", "mp4_5s", 16, _OPENL3, beside=4, files=2, most=8, shard=1),
    Case("musicnn_mp4_10s", "mp4_10s", 800, _one("musicnn", **RANDOM), beside=200, files=20),
    Case("yamnet_mp4_5s", "mp4_5s", 4000, _one("yamnet", **RANDOM), beside=600, files=40),
    Case("resnet18_mp4_5s", "mp4_5s", 300, _RESNET, beside=60),
    Case("four_mp4_5s", "mp4_5s", 600, _FOUR),
    Case("vggish_mp4_5s_gpu", "mp4_5s", 4000, _BFLOAT16, num_gpus=1.0),
)
