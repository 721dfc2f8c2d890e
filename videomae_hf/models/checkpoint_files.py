# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The files of a checkpoint, in a folder or on the Hub: found, and read without trusting them.

Nothing here runs code from a file or leaves the folder for a name in a file, and tensors take no more memory than the
files are long. A file that cannot be read is named, with the reason and the remedy.
"""

import json
import pickle
import re
import struct
import zipfile
from pathlib import Path

import torch
from huggingface_hub import errors as hub_errors
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import load_file
from transformers.utils import cached_file


# The options of `from_pretrained` that say where files are
FILE_OPTIONS = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")

# What the unpickler of torch raises for damaged and hostile files
_UNREADABLE = (
    pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, TypeError, LookupError, AttributeError,
    ArithmeticError, AssertionError, MemoryError, struct.error, zipfile.BadZipFile,
)  # fmt: skip


def find_file(name: str | Path, filename: str, options: dict) -> Path | None:
    """The path of a file of a checkpoint, downloaded if need be; None where the checkpoint does not have it.

    Args:
        name: folder, or id on the Hub.
        filename: in the folder, or in `options["subfolder"]` of it.
        options: of `FILE_OPTIONS`.

    Raises:
        ValueError: `name` is a file. OSError: it is neither a folder here nor a repository that can be read.
    """
    if Path(name).is_dir():
        path = Path(name, options.get("subfolder") or "", filename)
        return path if path.is_file() else None
    _refuse_paths(str(name))
    try:
        found = cached_file(str(name), filename, _raise_exceptions_for_missing_entries=False, **options)
    except OSError as error:
        raise OSError(_unreachable(name, options.get("revision"), error)) from error
    return None if found is None else Path(found)


def _refuse_paths(name: str) -> None:
    """Raises for what is not a folder here, and by its form no id on the Hub either."""
    path = Path(name)
    if path.is_file():
        if path.suffix in (".pth", ".pt", ".bin", ".safetensors") and not Path(path.parent, "config.json").is_file():
            raise ValueError(f"{name} is a file, not the folder of a checkpoint; videomae convert makes one of it.")
        raise ValueError(f"{name} is a file; give its folder, {path.parent}.")
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name):
        raise FileNotFoundError(f"There is no file or folder {name}.")


def _unreachable(name: str | Path, revision: str | None, error: OSError) -> str:
    cause = error.__cause__ or error
    if isinstance(cause, hub_errors.GatedRepoError):
        return f"{name} is gated on the Hub: accept its terms there, and log in with `hf auth login`."
    if isinstance(cause, hub_errors.RepositoryNotFoundError):
        return f"{name} is neither a folder here nor a model on the Hub; for a private one log in with `hf auth login`."
    if isinstance(cause, hub_errors.RevisionNotFoundError):
        return f"{name} on the Hub has no revision {revision!r}."
    if isinstance(cause, hub_errors.LocalEntryNotFoundError | ConnectionError):
        return f"{name} is no folder here, and the Hub cannot be reached to look for it there."
    reason = (str(cause).splitlines() or [type(cause).__name__])[0]
    return f"{name} is no folder here, and cannot be read from the Hub: {reason}"


def find_config(name: str | Path, options: dict) -> Path:
    """The path of config.json.

    Raises:
        FileNotFoundError: there is none; the message says what the folder holds instead.
    """
    path = find_file(name, "config.json", options)
    if path is not None:
        return path
    folder = Path(name, options.get("subfolder") or "")
    if not Path(name).is_dir():
        # A missing file and a repository that is not in the cache while offline look alike above.
        try:
            cached_file(str(name), "config.json", **options)
        except OSError as error:
            raise OSError(_unreachable(name, options.get("revision"), error)) from error
        raise FileNotFoundError(f"{name} on the Hub has no config.json: it is not a model of transformers.")
    official = sorted(path.name for path in folder.glob("*.pt*"))
    if official:
        raise FileNotFoundError(f"{folder} has no config.json; videomae convert {folder / official[-1]} makes one.")
    below = sorted(path.parent.name for path in folder.glob("*/config.json"))
    also = f"; there is one in {', '.join(below[:4])} below it" if below else ": it is not the folder of a checkpoint"
    raise FileNotFoundError(f"{folder} has no config.json{also}.")


def read_mapping(path: Path) -> dict:
    """The content of a JSON file that holds a mapping.

    Raises:
        ValueError: anything else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} {_damage(path) or f'is not valid JSON: {error}'}.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, where a mapping is expected.")
    return content


def weight_files(
    name: str | Path, options: dict, *, variant: str | None = None, use_safetensors: bool | None = None
) -> list[Path]:
    """The files with the weights of a checkpoint in the layout of transformers: one, or the shards of an index.

    Args:
        name: folder, or id on the Hub.
        options: of `FILE_OPTIONS`.
        variant: as in `from_pretrained`: `"fp16"` reads model.fp16.safetensors.
        use_safetensors: True reads no pickles, False only these; None prefers safetensors.

    Raises:
        FileNotFoundError: there are none. ValueError: a damaged index, or one that names a file outside of the folder.
    """
    kinds = {True: ("model.safetensors",), False: ("pytorch_model.bin",)}
    tried = []
    for stem, suffix in (kind.rsplit(".", 1) for kind in kinds.get(use_safetensors, kinds[True] + kinds[False])):
        filename = f"{stem}.{variant}.{suffix}" if variant else f"{stem}.{suffix}"
        index = f"{stem}.{suffix}.index.{variant}.json" if variant else f"{stem}.{suffix}.index.json"
        path = find_file(name, filename, options)
        if path is not None:
            return [path]
        path = find_file(name, index, options)
        if path is not None:
            return [_shard(name, shard, path, options) for shard in _shard_names(path)]
        tried.append(filename)
    raise FileNotFoundError(f"{name} holds no weights: no {' and no '.join(tried)}.")


def _shard_names(index: Path) -> list[str]:
    """The files that the index of a sharded checkpoint names."""
    weight_map = read_mapping(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f"{index} is damaged: it has no weight_map of weights and files.")
    for shard in weight_map.values():
        if not isinstance(shard, str) or Path(shard).name != shard or "\\" in shard:
            raise ValueError(f"{index} is refused: it names {shard!r}, which is no file of its folder.")
    return sorted(set(weight_map.values()))


def _shard(name: str | Path, shard: str, index: Path, options: dict) -> Path:
    path = find_file(name, shard, options)
    if path is None:
        raise FileNotFoundError(f"{index} names {shard}, which is missing; copy or download it again.")
    return path


def read_tensors(path: Path, *, disable_mmap: bool = False) -> dict[str, torch.Tensor]:
    """The tensors of a .safetensors file, or of a pickle that holds nothing else, mapped from the disk where possible.

    Args:
        path: its suffix says which.
        disable_mmap: read the whole file at once, for file systems that map badly.

    Raises:
        ValueError: a damaged file, one that needs code to be read, or tensors that are none of a model.
    """
    if path.suffix != ".safetensors":
        content = read_pickle(path)
        if not isinstance(content, dict):
            raise ValueError(f"{path} holds a {type(content).__name__}, not the weights of a model.")
        return checked_tensors(content, path)
    try:
        return load_safetensors(path.read_bytes()) if disable_mmap else load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path} {_damage(path) or f'is damaged or cut short ({error})'}.") from error


def read_pickle(path: Path, allowed: tuple[type, ...] = ()) -> object:
    """The content of a .bin, .pt or .pth file: tensors and plain values.

    Args:
        path: of the file.
        allowed: further classes that it may hold.

    Raises:
        ValueError: a damaged file, or one that needs code to be read.
    """
    try:
        is_zip = zipfile.is_zipfile(path)
        if is_zip:
            _refuse_compressed(path)
        with torch.serialization.safe_globals(list(allowed)):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except _UNREADABLE as error:
        raise ValueError(f"{path} {_damage(path) or _why_refused(error)}.") from error


def _refuse_compressed(path: Path) -> None:
    """torch never compresses; what does could unpack to any size."""
    with zipfile.ZipFile(path) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise zipfile.BadZipFile("its archive is compressed, which torch never writes")


def _why_refused(error: Exception) -> str:
    found = re.search(r"GLOBAL (\S+)", str(error))
    if isinstance(error, pickle.UnpicklingError) and found:
        return (
            f"is refused: it needs {found[1]}. Only tensors and plain values are read, because other pickles can run "
            f"code; load it where you trust it, and save its tensors alone"
        )
    # torch's own text for it is long, and names an option that runs code.
    reason = "" if isinstance(error, pickle.UnpicklingError) else (str(error).splitlines() or [""])[0]
    return f"is damaged or no PyTorch file ({reason or type(error).__name__})"


def _damage(path: Path) -> str | None:
    """What a file is in place of a checkpoint, as the rest of a sentence; None where that cannot be seen."""
    if path.is_dir():
        return "is a folder, not a file"
    try:
        with open(path, "rb") as file:
            start = file.read(512)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if not start:
        return "is empty; copy or download it again"
    if start.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the file itself; run `git lfs pull` in its repository"
    if start.lstrip()[:1] == b"<":
        return "is a web page, not a checkpoint; download the file itself"
    return None


def checked_tensors(content: dict, path: Path) -> dict[str, torch.Tensor]:
    """Tensors by name, as they may come from a pickle.

    Raises:
        ValueError: other names and values, or tensors without values of their own for each element.
    """
    for name, value in content.items():
        if not isinstance(name, str):
            raise ValueError(f"{path} names a weight {name!r}; the names of weights are text.")
        if not isinstance(value, torch.Tensor):
            raise ValueError(f"{path} holds a {type(value).__name__} as {name!r} among its weights.")
        if value.is_meta or value.layout != torch.strided or value.is_quantized or value.is_nested:
            raise ValueError(f"{path} holds {name} sparse, quantized or without values; save it as a plain tensor.")
        if value.untyped_storage().nbytes() < value.numel() * value.element_size():
            raise ValueError(
                f"{path} holds {name} as an expanded tensor, {tuple(value.shape)} of fewer values; save a copy of it."
            )
    return content
