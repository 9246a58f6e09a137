"""Media heard in this process: long ones in stretches, and tables that cannot be made again."""

import numpy as np
import pytest

from audioflow.backbones.ready import made_ready
from audioflow.engine import listening
from audioflow.engine.listening import Listening
from audioflow.errors import InputError
from audioflow.media.spans import Span
from audioflow.stores import NO_OPTIONS
from audioflow.tables import Header
from tests.unit.heard_run import tone, write_wav


def hearing(name: str, options: dict, **more: object) -> Listening:
    ready = made_ready(name, options)
    settings = {
        "backbone": name,
        "revision": ready.backbone.revision,
        "settings": ready.what_counts(),
        "max_duration_s": 100.0,
        "weights": {key: used.to_json() for key, used in ready.weights.items()},
    }
    return Listening(Header("embeddings", "sound", "", {}, settings | more, 0, 0, []), NO_OPTIONS)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("logmel", {"hop_s": 0.48}),
        ("acoustic", {"patch_s": 2.0, "hop_s": 0.7}),
        ("edgel3", {"weights": "random", "hop_s": 0.9, "precision": "float32"}),
    ],
)
def test_a_long_recording_is_heard_in_stretches_as_in_one(tmp_path, monkeypatch, name, options):
    path = tmp_path / "long.wav"
    write_wav(path, np.concatenate([tone(300 * n, 1.3, n) for n in range(1, 8)]))
    heard = hearing(name, options)
    whole = heard.embedding(str(path), Span())
    monkeypatch.setattr(listening, "STRETCH_S", 2)
    parts = heard.embedding(str(path), Span())
    assert len(whole.patch_start_s) > 8
    assert np.array_equal(parts.patch_start_s, whole.patch_start_s)
    for layer, vectors in whole.layers.items():
        largest = float(np.abs(vectors).max())
        assert parts.layers[layer] == pytest.approx(vectors, abs=1e-4 * largest)
    if name == "logmel":
        some = heard.embedding(str(path), Span(1.0, 2.0))
        assert len(some.patch_start_s) == 3
        with pytest.raises(InputError, match="longer than 2 s, which is too much to explain"):
            heard.waveform(str(path), Span())


def test_a_table_that_was_imported_has_nothing_to_hear_with():
    imported = Listening(Header("embeddings", "tags", "", {}, {}, 0, 0, []), NO_OPTIONS)
    with pytest.raises(InputError, match="embeddings/tags was imported: there is no backbone"):
        imported.embedding("a.wav", Span())


def test_a_backbone_that_is_not_what_it_was_is_refused():
    with pytest.raises(InputError, match="revision was 0, is 1"):
        _ = hearing("acoustic", {}, revision=0).ready


def test_silence_of_a_span_beyond_the_end_is_told(tmp_path):
    path = tmp_path / "short.wav"
    write_wav(path, tone(500, 1.0, 0))
    with pytest.raises(InputError, match=r"short\.wav cannot be decoded"):
        hearing("acoustic", {}).embedding(str(path), Span(5.0, 1.0))
