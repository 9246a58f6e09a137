"""State dicts saved by torch: `.pth`, `.pt`, `.pth.tar`, `.ckpt`, in the zip or the older format.

torch's own restricted unpickler reads them (`weights_only`), which admits tensors and plain
containers; the arrays of NumPy that some files hold beside tensors lead to our stand-ins.
"""

import pickle
import re
import warnings
import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audioflow.weights.faults import WeightsError, refuse_too_large, too_large
from audioflow.weights.nesting import tensors_in
from audioflow.weights.pickled import ARRAY_GLOBALS, PickledArray, Reconstructed, with_arrays

_INNER = re.compile(r"WeightsUnpickler error:\s*(\S[^\n]*)")
_NAMED = re.compile(r"GLOBAL (\S+)")
_NUMBERS = ("Float16", "Float32", "Float64", "Int8", "Int16", "Int32", "Int64", "UInt8", "Bool")


def torch_tensors(path: str, told: str) -> dict[str, NDArray[np.generic]]:
    """The tensors of a torch file by name; told: the file in messages.

    Raises `WeightsError` where it names anything but tensors and arrays, or is damaged.
    """
    import torch

    _refuse_program(path, told)
    admitted = [(stand_in, name) for name, stand_in in ARRAY_GLOBALS.items() if name != _ENCODE]
    own = [(cls, f"{cls.__module__}.{cls.__qualname__}") for cls in (PickledArray, Reconstructed)]
    try:
        with torch.serialization.safe_globals([*admitted, *own]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = torch.load(path, map_location="cpu", weights_only=True)
        found = _with_tensors(found, 0, {}, [0])
        return tensors_in(with_arrays(found), told)
    except pickle.UnpicklingError as error:
        raise WeightsError(f"{told} is refused: {_reason(error)}") from error
    except _DAMAGE as error:
        text = str(error).partition("\n")[0] or type(error).__name__
        raise WeightsError(
            f"{told} is no state dict of torch, or is damaged: {text}; expected tensors by name, "
            "as `torch.save(model.state_dict(), path)` writes them"
        ) from error


_ENCODE = "_codecs.encode"  # torch has its own
_DAMAGE = (
    *(RuntimeError, ValueError, TypeError, LookupError, AttributeError, EOFError, SyntaxError),
    *(OSError, UnicodeError, OverflowError, MemoryError, AssertionError, NotImplementedError),
)


def _refuse_program(path: str, told: str) -> None:
    """A zip file says what is in it before any of it is unpacked."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    refuse_too_large(told, sum(member.file_size for member in members))
    if any(member.filename.endswith("/constants.pkl") for member in members):
        raise WeightsError(
            f"{told} is a TorchScript program; expected its tensors: "
            "`torch.save(torch.jit.load(path).state_dict(), other_path)` where you trust it"
        )


def _reason(error: Exception) -> str:
    """What torch found, without its advice to read the file without protection."""
    named = _NAMED.search(str(error))
    if named is not None:
        return (
            f"it names {named[1]!r}, which is no tensor; nothing of it was run. Of a model saved "
            "as a whole, save the state dict with the code it is from: "
            "`torch.save(model.state_dict(), path)`"
        )
    inner = _INNER.search(str(error))
    if inner is not None:
        return inner[1]
    if "Weights only load failed" in str(error):
        return "its pickle is damaged, or no state dict"
    return str(error)


def _with_tensors(found: Any, depth: int, done: dict[int, Any], total: list[int]) -> Any:
    """The same dictionaries and lists, with arrays in place of tensors."""
    import torch

    if depth > 32:
        raise ValueError("it is nested deeper than 32")
    if id(found) in done:
        return done[id(found)]
    result: Any = found
    if isinstance(found, torch.Tensor):
        result = _array(found)
        total[0] += result.nbytes
        if too_large(total[0]):
            raise ValueError(f"it {too_large(total[0])}")
    elif isinstance(found, dict):
        result = {key: _with_tensors(value, depth + 1, done, total) for key, value in found.items()}
    elif isinstance(found, list | tuple):
        result = [_with_tensors(value, depth + 1, done, total) for value in found]
    else:
        return found
    done[id(found)] = result
    return result


def _array(tensor: Any) -> NDArray[np.generic]:
    import torch

    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        raise ValueError(f"a tensor is {tensor.layout}, {tensor.dtype}; expected plain numbers")
    # A view with strides of zero can claim any size.
    claimed = tensor.numel() * tensor.element_size()
    if too_large(claimed):
        raise ValueError(f"a tensor {too_large(claimed)}")
    tensor = tensor.detach()
    if tensor.dtype.is_floating_point and tensor.dtype not in _as_in_numpy():
        tensor = tensor.float()
    return np.asarray(tensor.resolve_conj().resolve_neg().numpy())


def _as_in_numpy() -> tuple[Any, ...]:
    import torch

    return torch.float16, torch.float32, torch.float64
