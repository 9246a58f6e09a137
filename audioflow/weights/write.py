"""Tensors written as safetensors."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audioflow.weights.faults import WeightsError


def save_tensors(tensors: Mapping[str, NDArray[np.generic]], out: Path, origin: str) -> None:
    """Write tensors as safetensors, in place as a whole; raises `WeightsError` where it cannot."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    plain = {name: np.array(array, order="C") for name, array in tensors.items()}
    try:
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as folder:
            whole = Path(folder) / out.name
            save_file(plain, whole, metadata={"format": "pt", "from": origin})
            whole.replace(out)
    except OSError as error:
        raise WeightsError(f"{out} cannot be written: {error.strerror or error}") from error
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{out} cannot hold these tensors: {error}") from error
