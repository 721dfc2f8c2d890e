# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Visual words: the centroids of a clustering of segment features, and the standardisation of features.

A feature belongs to the nearest centroid. That is the rule of a flat clustering; of a hierarchical one, whose leaves
are the centroids, walking down the tree gives another leaf for about 3 of 100 features, none of them nearer.
`videomae visual-words` fits centroids and writes them to a folder. This file ships with checkpoints and may import only
its siblings.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from .checkpoint_files import read_mapping, read_tensors


FORMAT = "videomae_hf visual words 1"
TENSORS, HEADER = "visual_words.safetensors", "visual_words.json"
_CHUNK = 2**24  # elements of a matrix of distances that exists at once


@dataclass(frozen=True, eq=False)
class VisualWords:
    """Centroids of standardised features.

    Args:
        centroids: float32 (K, F), of standardised features; K is 0 for a standardisation alone.
        mean, std: float32 (F,), of the features as they are.
        origin: how they were made, for the file.

    Raises:
        ValueError: shapes contradict each other, or a value is not finite.
    """

    centroids: torch.Tensor
    mean: torch.Tensor
    std: torch.Tensor
    origin: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shapes = [tuple(one.shape) for one in (self.centroids, self.mean, self.std)]
        if self.centroids.ndim != 2 or shapes[1:] != [shapes[0][1:]] * 2:
            raise ValueError(f"Visual words need centroids (K, F), mean (F,) and std (F,), not the shapes {shapes}.")
        if not all(one.is_floating_point() and one.isfinite().all() for one in (self.centroids, self.mean, self.std)):
            raise ValueError("Centroids, mean and std of visual words must be finite floats.")
        if not (self.std > 0).all():
            raise ValueError("The std of visual words must be positive in every dimension.")

    def assign(self, features: torch.Tensor) -> torch.Tensor:
        """Features as they are, float (.., F) -> int64 (..), the numbers of their words."""
        return nearest(standardize(features, self.mean, self.std), self.centroids)

    def save(self, folder: str | Path) -> None:
        """Writes the files of visual words to a folder, which is created if necessary."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {"centroids": self.centroids, "mean": self.mean, "std": self.std}
        tensors = {name: value.float().contiguous() for name, value in tensors.items()}
        save_file(tensors, folder / TENSORS, metadata={"format": "pt"})
        number, size = self.centroids.shape
        header = {"format": FORMAT, "visual_words": number, "feature_size": size, **self.origin}
        (folder / HEADER).write_text(json.dumps(header, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> "VisualWords":
        """Reads the files of visual words.

        Raises:
            FileNotFoundError: the folder has none.
            ValueError: a file is damaged.
        """
        folder = Path(folder)
        for name in (HEADER, TENSORS):
            if not (folder / name).is_file():
                raise FileNotFoundError(f"{folder} has no {name}; videomae visual-words writes it.")
        header, tensors = read_mapping(folder / HEADER), read_tensors(folder / TENSORS)
        if header.get("format") != FORMAT:
            raise ValueError(f"{folder / HEADER} has the format {header.get('format')!r:.80}, not {FORMAT!r}.")
        missing = {"centroids", "mean", "std"} - tensors.keys()
        if missing:
            raise ValueError(f"{folder / TENSORS} has no {', '.join(sorted(missing))}.")
        origin = {key: value for key, value in header.items() if key not in ("format", "visual_words", "feature_size")}
        return cls(tensors["centroids"], tensors["mean"], tensors["std"], origin)


def standardize(features: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Features (.., F) -> float32 (.., F) with mean 0 and standard deviation 1 in every dimension."""
    return (features.float() - mean.float()) / std.float()


@torch.no_grad()
def nearest(features: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    """The nearest centroid by Euclidean distance, in float32: (.., F) and (K, F) -> int64 (..).

    Raises:
        ValueError: there is no centroid, or the sizes of features and centroids differ.
    """
    if len(centroids) == 0 or features.shape[-1] != centroids.shape[1]:
        shape = tuple(centroids.shape)
        raise ValueError(f"Features of {features.shape[-1]} values cannot be compared with centroids of shape {shape}.")
    centroids, rows = centroids.float(), features.float().flatten(0, -2)  # (N, F)
    # |x - c|^2 = |x|^2 - 2 (x c - |c|^2 / 2), whose first term is the same for all centroids
    offsets = centroids.square().sum(dim=1) / 2
    chunks = rows.split(max(_CHUNK // len(centroids), 1))
    found = [(chunk @ centroids.T - offsets).argmax(dim=1) for chunk in chunks]
    return torch.cat(found).view(features.shape[:-1]) if found else rows.new_zeros(features.shape[:-1]).long()
