# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Where the weights of a checkpoint come from, and which licence they inherit.

A run records the checkpoint that it started from; a chain of runs leads back to weights of others. Their licence is
that of their model card or, where the card cannot be read, that of a table of the published VideoMAE weights.
"""

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from ..models.adapters import ADAPTER_CONFIG
from ..models.checkpoint_files import find_file, read_mapping
from ..text_files import read_yaml, write_text
from .run_folders import SETTINGS, read_record, run_folder


logger = logging.getLogger(__name__)

# Published VideoMAE weights, by their id on the Hub or a folder named like it -> licence. That of OpenGVLab's weights
# could not be verified; they are taken as non-commercial unless their card, if it can be read, says otherwise.
_PUBLISHED = (
    (r"MCG-NJU(/|--)videomae", "cc-by-nc-4.0"),
    (r"OpenGVLab(/|--)VideoMAE", "cc-by-nc-4.0"),
    (r"facebook(/|--)vit-mae", "cc-by-nc-4.0"),
)
# Names of licences that ask for no more than a notice
_PERMISSIVE = frozenset(
    {"apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "isc", "zlib", "unlicense", "cc0-1.0", "wtfpl"}
)
_SHARE_ALIKE = re.compile(r"(a|l)?gpl(-\d.*)?|mpl-.*|odbl")
_LONGEST_HEADER = 2**16  # characters of a model card that are read
_LONGEST_CHAIN = 10  # checkpoints that a search for the origin follows


@dataclass(frozen=True)
class Origin:
    """The weights of others that a checkpoint started from.

    Args:
        base_model: their id on the Hub; None if there are none, or if they have no id.
        license: their licence; None if there are none, or if it is unknown.
    """

    base_model: str | None = None
    license: str | None = None


def origin_of(checkpoint: str | Path | None, teacher: str | Path | None = None) -> Origin:
    """The origin of a checkpoint and, for the licence alone, that of a teacher whose outputs it was trained on.

    Returns:
        The first model on the Hub in the chain of base checkpoints, and the licence with the most terms.

    Raises:
        ValueError: a record next to a checkpoint is damaged.
    """
    found = list(_origins(checkpoint, seen := set())) + list(_of_teacher(teacher, seen))
    known = [origin.license for origin in found if origin.license]
    return Origin(
        base_model=next((origin.base_model for origin in found if origin.base_model), None),
        license=max(known, key=lambda name: (terms(name) is None, len(terms(name) or ())), default=None),
    )


def _origins(checkpoint: str | Path | None, seen: set[str]) -> Iterator[Origin]:
    name = str(checkpoint)
    if checkpoint is None or name in seen or len(seen) >= _LONGEST_CHAIN:
        return
    seen.add(name)
    card = _card_header(name)
    if not Path(name).is_dir():
        hub_id = name if re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name) else None
        yield Origin(hub_id, _text(card, "license") or _published_licence(name))
    else:
        record, settings, adapter = _records(Path(name))
        yield Origin(None, _text(card, "license") or _published_licence(Path(name).resolve().as_posix()))
        yield Origin(None, _text(record, "base_license"))
        yield from _origins(_text(record, "base_model"), seen)
        yield from _origins(_local(settings, "checkpoint"), seen)  # the record names those on the Hub
        yield from _origins(_text(adapter, "base_model_name_or_path"), seen)
        if "base_license" not in record:  # of an earlier release, which did not record what teachers pass on
            yield from _of_teacher(_text(settings, "teacher"), seen)
    yield from _origins(_text(card, "base_model"), seen)


def _of_teacher(teacher: str | Path | None, seen: set[str]) -> Iterator[Origin]:
    """The licences of a teacher, whose weights were not a start."""
    return (Origin(None, origin.license) for origin in _origins(teacher, seen))


def _records(folder: Path) -> tuple[dict, dict, dict]:
    """run.json and settings.yaml of the run that wrote a folder, and its adapter_config.json; {} for those it lacks."""
    run, adapter = run_folder(folder), folder / ADAPTER_CONFIG
    settings = run / SETTINGS
    return (
        read_record(run) or {},
        read_yaml(settings) if settings.is_file() else {},
        read_mapping(adapter) if adapter.is_file() else {},
    )


def _text(content: dict, name: str) -> str | None:
    value = content.get(name)
    value = value[0] if isinstance(value, list) and value else value  # a card may list several
    return value if isinstance(value, str) else None


def _local(settings: dict, name: str) -> str | None:
    """A setting that names a folder which exists; relative ones are not those of another working directory."""
    value = _text(settings, name)
    return value if value is not None and Path(value).is_dir() else None


def write_origin(origin: Origin, folder: Path) -> None:
    """Writes a model card of metadata alone, so that converted weights keep their origin."""
    stated = {"base_model": origin.base_model, "license": origin.license}
    stated = {name: value for name, value in stated.items() if value is not None}
    if stated:
        write_text(folder / "README.md", f"---\n{yaml.safe_dump(stated)}---\n")


def _card_header(name: str) -> dict:
    """The metadata in the model card of a folder or of a model on the Hub; {} without a card that can be read."""
    try:
        file = find_file(name, "README.md", {})
    except (OSError, ValueError) as error:
        logger.info("The model card of %s cannot be read: %s", name, error)
        return {}
    if file is None:
        return {}
    with open(file, encoding="utf-8", errors="replace") as text:
        header = re.match(r"---\s*\n(.*?)\n---\s*\n", text.read(_LONGEST_HEADER), re.DOTALL)
    try:
        content = yaml.safe_load(header[1]) if header else {}
    except (yaml.YAMLError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _published_licence(name: str) -> str | None:
    return next((license_name for pattern, license_name in _PUBLISHED if re.search(pattern, name)), None)


def terms(license_name: str) -> frozenset[str] | None:
    """The terms of a licence beyond a notice: "nc" (non-commercial), "nd" (no derivatives), "sa" (share alike).

    Returns None for a licence that is not known here.

    >>> sorted(terms("cc-by-nc-sa-4.0")), terms("apache-2.0"), terms("my-own")
    (['nc', 'sa'], frozenset(), None)
    """
    name = license_name.lower()
    if name in _PERMISSIVE:
        return frozenset()
    if name.startswith("cc-by"):
        return frozenset({"nc", "nd", "sa"} & set(name.split("-")))
    return frozenset({"sa"}) if _SHARE_ALIKE.fullmatch(name) else None


def licence_to_state(license_name: str | None, origin: Origin, *, override: bool) -> str | None:
    """The licence for a model card: the author's or, without one, that of the origin.

    Args:
        license_name: the licence that the author of the card states.
        origin: where the weights come from.
        override: accept any licence of the author, who has permission for it.

    Raises:
        ValueError: the author's licence lacks terms of the origin's, or the two cannot be compared.
    """
    if license_name is None or override:
        return license_name or origin.license
    if origin.license is None or license_name.lower() == origin.license.lower():
        return license_name
    inherited, stated = terms(origin.license), terms(license_name)
    if inherited is not None and (not inherited or (stated is not None and inherited <= stated)):
        return license_name
    source = f" of {origin.base_model}" if origin.base_model else ""
    compared = "is freer than" if inherited is not None and stated is not None else "cannot be compared with"
    raise ValueError(
        f"--license {license_name} {compared} {origin.license}, the licence{source} that these weights inherit. Leave "
        f"out --license to keep it, or add --license_override if you have permission."
    )
