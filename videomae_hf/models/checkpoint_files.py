# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Finds the files of a checkpoint, in a folder or on the Hub, and reads them without trusting them.

No function here runs code from a file or follows a file name out of the folder, and tensors take no more memory than
the size of their files. Error messages name the file, the reason and the remedy. This file ships with checkpoints and
may import only its siblings.
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


# The options of `from_pretrained` that say where to find files
FILE_OPTIONS = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")

# The exceptions that torch's unpickler raises for damaged and hostile files
_UNREADABLE = (
    pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, TypeError, LookupError, AttributeError,
    ArithmeticError, AssertionError, MemoryError, struct.error, zipfile.BadZipFile,
)  # fmt: skip


def find_file(name: str | Path, filename: str, options: dict) -> Path | None:
    """The path of a checkpoint's file, downloaded if necessary; None if the checkpoint does not have it.

    Args:
        name: folder, or id on the Hub.
        filename: name of the file, in the folder or in its `options["subfolder"]`.
        options: any of `FILE_OPTIONS`.

    Raises:
        ValueError: `name` is a file.
        OSError: `name` is neither a local folder nor a repository that can be read.
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
    """Raises for a name that is not a local folder and cannot be an id on the Hub."""
    path = Path(name)
    if path.is_file():
        if path.suffix in (".pth", ".pt", ".bin", ".safetensors") and not Path(path.parent, "config.json").is_file():
            raise ValueError(f"{name} is a file, not the folder of a checkpoint; convert it with videomae convert.")
        raise ValueError(f"{name} is a file; give its folder, {path.parent}.")
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name):
        raise FileNotFoundError(f"There is no file or folder {name}.")


def _unreachable(name: str | Path, revision: str | None, error: OSError) -> str:
    cause = error.__cause__ or error
    if isinstance(cause, hub_errors.GatedRepoError):
        return f"{name} is gated on the Hub: accept its terms there, and log in with `hf auth login`."
    if isinstance(cause, hub_errors.RepositoryNotFoundError):
        return f"{name} is neither a local folder nor a model on the Hub; if it is private, run `hf auth login`."
    if isinstance(cause, hub_errors.RevisionNotFoundError):
        return f"{name} on the Hub has no revision {revision!r}."
    if isinstance(cause, hub_errors.LocalEntryNotFoundError | ConnectionError):
        return f"{name} is not a local folder, and the Hub cannot be reached to look for it there."
    reason = (str(cause).splitlines() or [type(cause).__name__])[0]
    return f"{name} is not a local folder, and cannot be read from the Hub: {reason}"


def find_config(name: str | Path, options: dict) -> Path:
    """The path of config.json.

    Raises:
        FileNotFoundError: there is no config.json; the message says what the folder holds instead.
    """
    path = find_file(name, "config.json", options)
    if path is not None:
        return path
    folder = Path(name, options.get("subfolder") or "")
    if not Path(name).is_dir():
        # `find_file` cannot tell a missing file from a repository that is not in the cache while offline.
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
        ValueError: the file is not valid JSON, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} {_damage(path) or f'is not valid JSON: {error}'}.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__} instead of a mapping.")
    return content


def weight_files(
    name: str | Path, options: dict, *, variant: str | None = None, use_safetensors: bool | None = None
) -> list[Path]:
    """The weight files of a checkpoint in the layout of transformers: one file, or the shards that an index lists.

    Args:
        name: folder, or id on the Hub.
        options: any of `FILE_OPTIONS`.
        variant: as in `from_pretrained`: `"fp16"` reads model.fp16.safetensors.
        use_safetensors: True reads safetensors only, False pickles only; None prefers safetensors.

    Raises:
        FileNotFoundError: there are no weights.
        ValueError: the index is damaged, or names a file outside the folder.
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
    """The file names in the index of a sharded checkpoint."""
    weight_map = read_mapping(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f"{index} is damaged: it has no weight_map of weights and files.")
    for shard in weight_map.values():
        if not isinstance(shard, str) or Path(shard).name != shard or "\\" in shard:
            raise ValueError(f"{index} is refused: it names {shard!r}, which is not a file in its folder.")
    return sorted(set(weight_map.values()))


def _shard(name: str | Path, shard: str, index: Path, options: dict) -> Path:
    path = find_file(name, shard, options)
    if path is None:
        raise FileNotFoundError(f"{index} names {shard}, which is missing; copy or download it again.")
    return path


def read_tensors(path: Path, *, disable_mmap: bool = False) -> dict[str, torch.Tensor]:
    """The tensors of a .safetensors file, or of a pickle of tensors, memory-mapped where possible.

    Args:
        path: the file; its suffix tells the format.
        disable_mmap: read the whole file at once, for file systems on which memory mapping is slow or unsupported.

    Raises:
        ValueError: the file is damaged, needs code to be read, or holds something other than the weights of a model.
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
        path: the file.
        allowed: further classes that the file may hold.

    Raises:
        ValueError: the file is damaged, or needs code to be read.
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
    """Raises for a compressed archive: torch never writes one, and it could unpack to any size."""
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
    # torch's own message is long, and recommends an option that runs code.
    reason = "" if isinstance(error, pickle.UnpicklingError) else (str(error).splitlines() or [""])[0]
    return f"is damaged or not a PyTorch file ({reason or type(error).__name__})"


def _damage(path: Path) -> str | None:
    """Says what a file is instead of a checkpoint, as the end of a sentence; None if that is unknown."""
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
    """Checks that the content of a pickle maps names to ordinary tensors, and returns it.

    Raises:
        ValueError: a name is not text, a value is not a dense tensor, or a tensor is expanded from fewer values.
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
