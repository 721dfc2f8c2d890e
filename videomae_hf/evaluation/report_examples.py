# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Videos that a report shows: the most confident errors, and a random sample of right predictions."""

import base64
import io
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..labels import labels_of
from ..messages import printable
from .findings import Predicted, error_sizes
from .perturbations import PLAIN
from .strips import frame_strip


_SHOWN = 8  # examples of each kind
_FRAMES, _HEIGHT = 4, 84  # of a strip of thumbnails


def examples(predicted: Predicted, frame_template: str | None = None) -> list[tuple[str, list[dict[str, Any]]]]:
    """Titles, and examples with `path`, `text`, `wrong` and `picture` (a data URL, or None if there is none).

    Args:
        predicted: predictions of readable videos.
        frame_template: pattern of the file names in folders of images.
    """
    sizes = error_sizes(predicted)
    worst = [place for place in np.argsort(-sizes, kind="stable")[:_SHOWN] if sizes[place] > 0]
    order = torch.randperm(len(sizes), generator=torch.Generator().manual_seed(0)).tolist()
    chosen = [("The most confident errors" if predicted.kind != "regression" else "The largest errors", worst)]
    if predicted.kind == "regression":
        chosen.append(("A random sample", order[:_SHOWN]))
    else:
        right = [place for place in order if sizes[place] <= 0]
        chosen.append(("Right predictions, a random sample", right[:_SHOWN]))

    def shown(place: int, *, wrong: bool) -> dict[str, Any]:
        record = predicted.records[place]
        picture = thumbnails(record.video(frame_template))
        return {"path": printable(record.name), "text": _text(predicted, place), "wrong": wrong, "picture": picture}

    return [(title, [shown(place, wrong=places is worst) for place in places]) for title, places in chosen if places]


def _text(predicted: Predicted, place: int) -> str:
    """The label and the prediction of a video, as in predictions.csv."""
    kind, names = labels_of(predicted.problem_type, len(predicted.names)), predicted.names
    true = kind.true_cells(predicted.records[place], names)
    said = kind.predicted_cells(torch.from_numpy(predicted.logits[PLAIN][place]), names)
    if predicted.kind == "regression":
        return "; ".join(f"{name}: {one}, predicted {other}" for name, one, other in zip(names, true, said))
    return f"{true[0] or 'no label'}; predicted {said[0] or 'no label'} ({said[1] or '-'})"


def thumbnails(video: Any) -> str | None:
    """Four frames spread evenly over a video, side by side, as a data URL; None if they cannot be read."""
    strip = frame_strip(video, _FRAMES, _HEIGHT)
    return None if strip is None else data_url(strip, "JPEG")


def data_url(picture: Image.Image, file_format: str = "PNG") -> str:
    """A picture as a URL that holds it."""
    file = io.BytesIO()
    picture.save(file, format=file_format)
    return f"data:image/{file_format.lower()};base64," + base64.b64encode(file.getvalue()).decode()
