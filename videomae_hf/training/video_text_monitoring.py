# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Pictures in the log of a VideoBERT run: what the model makes of a few fixed videos.

The run is bit for bit the same without them, as with those of `monitoring.py`.
"""

from PIL import Image
from transformers import Trainer

from ..evaluation.video_text_examples import Examples, choose_examples
from ..evaluation.video_text_pictures import draw_answers, strips_of
from ..settings.run import Run
from .distributed import report
from .monitoring import StepPictures


_FOLDER = "examples"


def log_examples(trainer: Trainer, run: Run) -> None:
    """Logs pictures of `example_videos` evaluation videos, or training videos if there are none."""
    number = run.video_text.example_videos
    if number == 0:
        return
    dataset = trainer.train_dataset if trainer.eval_dataset is None else trainer.eval_dataset
    examples = choose_examples(dataset.load.videos, dataset.load.segments, trainer.processing_class, number)
    if not examples.items:
        report(run.training, ["no pictures of examples: none of the videos looked at can be read"])
        return
    trainer.add_callback(ExamplePictures(trainer, examples, run.clips.frame_template))


class ExamplePictures(StepPictures):
    """Draws what the model makes of examples, in `output_dir/examples/step_00000100.png`; in trackers, `examples`.

    Args:
        trainer: the trainer of a VideoBERT with a head.
        examples: the videos, captions and masks, which are fixed.
        frame_template: pattern of file names in folders of images.
    """

    def __init__(self, trainer: Trainer, examples: Examples, frame_template: str | None = None) -> None:
        super().__init__(trainer)
        self.examples, self.frame_template = examples, frame_template
        self._strips: list[Image.Image | None] | None = None  # once they are needed

    def pictures(self) -> dict[tuple[str, str], Image.Image]:
        model, items = self.trainer.model, self.examples.items
        answers = self.examples.answers(model)
        if not self.trainer.is_world_process_zero():
            return {}
        if self._strips is None:
            self._strips = strips_of(items, answers.segments, self.frame_template)
        softmax = model.config.match_loss == "softmax"
        return {(_FOLDER, _FOLDER): draw_answers(items, answers, self._strips, softmax=softmax)}
