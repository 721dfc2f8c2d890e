# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The page of `videomae app` in gradio: a video on the left, and on the right a tab for all that the model can do.

The page reads uploaded videos and the examples, and nothing else: no file outside their folder, and no address.
"""

import html
from abc import ABCMeta
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path

import gradio as gr
import torch
from starlette.middleware import Middleware

from ..messages import printable
from ..models.masking import DECODER_MASKS, ENCODER_MASKS
from ..models.video_sources import VideoSegment
from .inputs import Input
from .loading import INPUT_ERRORS
from .predictions import REGRESSION
from .showcase import Showcase
from .text_showcase import LONGEST_MOMENT, MOST_MATCHES, TextShowcase
from .visualization import EVIDENCE


# One request at a time, over all tabs: the model fills the device, and pictures of gradients put hooks on it.
_ALONE = {"concurrency_id": "model", "concurrency_limit": 1}
_WAITING = 20  # requests; further ones are refused
_OLD = 24 * 3600  # seconds, after which uploaded videos are removed
_PROGRESS = gr.Progress()  # the default by which gradio knows that a function reports progress
_NO_LAYER, _ALL_HEADS, _PREDICTED = "rollout alone", "all heads", "the predicted class"


class _NoStubs(type(gr.Video)):
    """The metaclass of gradio, without the .pyi file that it would write beside this one."""

    def __new__(cls, name: str, bases: tuple[type, ...], attributes: dict) -> type:
        return ABCMeta.__new__(cls, name, bases, attributes)


class UploadedVideo(gr.Video, metaclass=_NoStubs):
    """A video that was uploaded, as it is: gradio would convert some with FFmpeg, and download addresses."""

    def get_block_name(self) -> str:
        return "video"

    async def async_move_resource_to_block_cache(self, url_or_file_path: str | Path | None) -> str | None:
        if "://" in str(url_or_file_path):
            raise gr.Error("Upload a file; addresses are not read.", print_exception=False)
        return await super().async_move_resource_to_block_cache(url_or_file_path)

    def _format_video(self, video: str | Path | None) -> gr.FileData | None:
        return None if video is None else gr.FileData(path=str(video), orig_name=Path(video).name)


class NoAddresses:
    """ASGI middleware that refuses `/file=https://..`, for which gradio would fetch the address and pass it on."""

    def __init__(self, app: Callable) -> None:
        self.app = app

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        if scope["type"] == "http" and "=http" in scope["path"].lower():
            await send({"type": "http.response.start", "status": 403, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
        else:
            await self.app(scope, receive, send)


def answers(function: Callable) -> Callable:
    """The function of a button, called with an `Input` for the path of the video; errors are one line on the page."""

    @wraps(function)
    def answer(path: str | None, *values):
        if path is None:
            raise _line("Choose a video first.")
        name = Path(path).name
        try:
            return function(Input(name, path), *values)
        except INPUT_ERRORS as error:
            raise _line(str(error).replace(path, name)) from error
        except torch.OutOfMemoryError as error:
            raise _line("The memory of the device is not enough for this.") from error

    return answer


def _line(text: str) -> gr.Error:
    # gradio renders messages as HTML, and those about videos hold their names.
    return gr.Error(html.escape(printable(text), quote=False), duration=None, print_exception=False)


def build_page(showcase: Showcase, examples: Sequence[str | Path] = ()) -> gr.Blocks:
    """The page of a model; `serve` of `videomae_hf.commands.app` opens it safely.

    Args:
        showcase: the model.
        examples: videos to choose from.

    Returns:
        The page, with a tab for each thing that the model can do.
    """
    name = printable(showcase.name)
    with gr.Blocks(title=name, analytics_enabled=False, delete_cache=(3600, _OLD)) as page:
        notes = "".join(f"<br>{html.escape(printable(line))}" for line in showcase.messages)
        gr.HTML(f"<h2>{html.escape(name)}</h2>{html.escape(showcase.describe())}{notes}")
        with gr.Row():
            with gr.Column(scale=2, min_width=280):
                video = UploadedVideo(label="Video", sources=["upload", "webcam"], elem_id="video")
                gr.Markdown(
                    "Pictures of clips are of the one in the middle of the video. A video that your browser cannot "
                    "play, such as many AVI files, works all the same."
                )
                if examples:
                    gr.Examples([[str(path)] for path in examples], [video], cache_examples=False)
            with gr.Column(scale=5):
                with gr.Tabs():
                    _tabs(showcase, video)
    return page.queue(default_concurrency_limit=1, max_size=_WAITING, api_open=False)


def build_text_page(showcase: TextShowcase) -> gr.Blocks:
    """The page of a VideoBERT: a text box that finds videos and moments of a folder."""
    name = printable(showcase.name)
    with gr.Blocks(title=name, analytics_enabled=False) as page:
        gr.HTML(f"<h2>{html.escape(name)}</h2>{html.escape(showcase.describe())}")
        text = gr.Textbox(label="What do the videos show?", max_length=1000, elem_id="text")
        with gr.Row():
            seconds = gr.Slider(0, LONGEST_MOMENT, value=0, step=1, label="Seconds of a moment; 0 finds whole videos")
            number = gr.Slider(1, MOST_MATCHES, value=8, step=1, label="Matches")
        button = gr.Button("Find", variant="primary", elem_id="find")
        note = gr.Textbox(label="Note", interactive=False)  # a text, so that the words of the query are no markup
        picture = _picture("Videos", "sheet")
        headers = ["score", "video", "start", "end"]
        matches = gr.Dataframe(headers=headers, label="Matches", interactive=False, elem_id="matches")

        def find(text: str, seconds: int, number: int):
            try:
                return showcase.find(text, int(seconds), int(number))
            except INPUT_ERRORS as error:
                raise _line(str(error)) from error

        outputs = [picture, matches, note]
        gr.on([button.click, text.submit], find, [text, seconds, number], outputs, api_name="find", **_ALONE)
    return page.queue(default_concurrency_limit=1, max_size=_WAITING, api_open=False)


def launch_page(
    page: gr.Blocks, host: str | None, port: int | None, max_size: str, *, share: bool = False
) -> tuple[str, str | None]:
    """Starts the server of a page in a thread; see `serve` of `videomae_hf.commands.app`.

    Returns:
        The address on this machine, and the public one, if there is one.
    """
    # The fonts of the reader's machine, no server of node beside this one, no records of its use, no file to read
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    closed = {"ssr_mode": False, "mcp_server": False, "enable_monitoring": False, "run_history": False}
    _, local, public = page.launch(
        server_name=host,
        server_port=port,
        share=share,
        max_file_size=max_size.lower(),
        allowed_paths=[],
        app_kwargs={"middleware": [Middleware(NoAddresses)]},
        show_error=False,
        footer_links=["api"],
        theme=gr.themes.Default(**fonts),
        quiet=True,
        prevent_thread_lock=True,
        **closed,
    )
    return local, public


def _tabs(showcase: Showcase, video: gr.Video) -> None:
    if showcase.predictor is not None:
        with gr.Tab("Prediction"):
            _prediction(showcase, video)
    if showcase.can_reconstruct:
        with gr.Tab("Reconstruction"):
            _reconstruction(showcase, video)
    with gr.Tab("Attention"):
        _attention(showcase, video)
    if EVIDENCE in showcase.viewer.kinds:
        with gr.Tab("Evidence"):
            _evidence(showcase, video)
    if showcase.neighbours is not None:
        with gr.Tab("Nearest videos"):
            _neighbours(showcase, video)


def _picture(label: str, name: str) -> gr.Image:
    # Without the button "share", which would upload the picture; the label would hide its upper left corner
    buttons = ["download", "fullscreen"]
    return gr.Image(
        label=label, elem_id=name, type="pil", format="png", interactive=False, buttons=buttons, show_label=False
    )


def _prediction(showcase: Showcase, video: gr.Video) -> None:
    is_regression = showcase.predictor.head.problem_type == REGRESSION
    button = gr.Button("Predict", variant="primary", elem_id="predict")
    if is_regression:
        result = gr.Dataframe(headers=["name", "value"], label="Prediction", interactive=False)
    else:
        result = gr.Label(label="Prediction", num_top_classes=5, elem_id="labels")
    picture = _picture("Over time", "timeline")
    note = gr.Markdown(label="note")
    segments = gr.Dataframe(
        headers=["start", "end", "label", "score"], label="Segments", interactive=False, visible=not is_regression,
        elem_id="segments",
    )  # fmt: skip
    with gr.Accordion("Options", open=False):
        with gr.Row():
            num_clips = gr.Slider(1, 10, value=2, step=1, label="Clips of the video")
            num_crops = gr.Radio([1, 3], value=1, label="Crops of each clip")
        with gr.Row():
            default = showcase.default_window
            window = gr.Textbox("", label="Window", placeholder=default or "none", info="seconds, or frames as 64f")
            stride = gr.Textbox("", label="Stride", placeholder="half of the window", info="in the same unit")
            threshold = gr.Slider(0, 1, value=0.5, step=0.01, label="Threshold of segments", visible=not is_regression)

    @answers
    def predict(video: Input, num_clips: int, num_crops: int):
        prediction = showcase.predict(video, int(num_clips), int(num_crops))
        return [list(pair) for pair in prediction.top()] if is_regression else prediction.values

    @answers
    def timeline(video: Input, window: str, stride: str, threshold: float, progress: gr.Progress = _PROGRESS):
        if default is None and not window.strip():
            return None, "The model takes clips that are spread over whole videos: give a window for a timeline.", []
        options = {"window": window.strip() or None, "stride": stride.strip() or None}
        found = showcase.timeline(video, **options, progress=lambda n, end: progress((n, None), desc=f"{end:.0f} s"))
        number, end = len(found.timeline.starts), float(found.timeline.ends[-1])
        if number == 1:
            return None, "The video is not longer than one window, so that it has no timeline.", []
        rows = [] if is_regression else [[round(start, 2), round(end, 2), label, round(score, 3)]
                                         for start, end, label, score in found.segments(threshold)]  # fmt: skip
        text = f"{number:,} windows."
        if isinstance(found.video, VideoSegment):  # cut after `MOST_WINDOWS`
            text += f" These end at {end:.0f} s: the page shows no more, but `videomae predict --timeline` does."
        return showcase.timeline_picture(found, threshold), text, rows

    first = button.click(predict, [video, num_clips, num_crops], result, api_name="predict", **_ALONE)
    inputs, outputs = [video, window, stride, threshold], [picture, note, segments]
    first.success(timeline, inputs, outputs, api_name="timeline", **_ALONE)


def _reconstruction(showcase: Showcase, video: gr.Video) -> None:
    config = showcase.viewer.model.config
    button = gr.Button("Reconstruct", variant="primary", elem_id="reconstruct")
    with gr.Row():
        mask_type = gr.Dropdown(list(ENCODER_MASKS), value=config.mask_type, label="Mask type")
        mask_ratio = gr.Slider(0, 0.99, value=config.mask_ratio, step=0.01, label="Mask ratio", elem_id="mask_ratio")
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=2**31 - 1)
    with gr.Row():
        decoder_type = gr.Dropdown(list(DECODER_MASKS), value=config.decoder_mask_type, label="Decoder mask type")
        decoder_ratio = gr.Slider(0, 0.99, value=config.decoder_mask_ratio, step=0.01, label="Decoder mask ratio")
    picture = _picture("Reconstruction", "reconstruction")
    note = gr.Markdown(label="note")
    moving = gr.HTML(label="moving", elem_id="moving")

    @answers
    def reconstruct(
        video: Input, mask_type: str, mask_ratio: float, decoder_type: str, decoder_ratio: float, seed: int
    ):
        masks = {"mask_type": mask_type, "mask_ratio": mask_ratio}
        masks |= {"decoder_mask_type": decoder_type, "decoder_mask_ratio": decoder_ratio}
        picture, moving, text = showcase.reconstruction(video, int(seed or 0), **masks)
        return picture, text, moving

    def follow(path: str | None, *values):
        return reconstruct(path, *values) if path is not None else [gr.skip()] * 3

    choices = [mask_type, mask_ratio, decoder_type, decoder_ratio, seed]
    inputs, outputs = [video, *choices], [picture, note, moving]
    button.click(reconstruct, inputs, outputs, api_name="reconstruct", **_ALONE)
    # Of the values that a slider passes, the last one alone is computed when the one before it is done.
    changes, last = [choice.change for choice in choices], {"trigger_mode": "always_last", "show_progress": "minimal"}
    gr.on(changes, follow, inputs, outputs, api_visibility="private", **last, **_ALONE)


def _attention(showcase: Showcase, video: gr.Video) -> None:
    config = showcase.viewer.model.config
    button = gr.Button("Show attention", variant="primary", elem_id="attend")
    with gr.Row():
        layers, heads = ([str(number) for number in range(total)]
                         for total in (config.num_hidden_layers, config.num_attention_heads))  # fmt: skip
        layer = gr.Dropdown([_NO_LAYER, *layers], value=_NO_LAYER, label="Layer")
        head = gr.Dropdown([_ALL_HEADS, *heads], value=_ALL_HEADS, label="Head")
    picture = _picture("Attention", "attention")

    @answers
    def attend(video: Input, layer: str, head: str):
        layer, head = (None if choice in (_NO_LAYER, _ALL_HEADS) else int(choice) for choice in (layer, head))
        return showcase.attention(video, layer, head)

    button.click(attend, [video, layer, head], picture, api_name="attention", **_ALONE)


def _evidence(showcase: Showcase, video: gr.Video) -> None:
    button = gr.Button("Show evidence", variant="primary", elem_id="explain")
    # Pairs, because a class may have the name of the first choice
    choices = [(_PREDICTED, -1), *((name, number) for number, name in enumerate(showcase.predictor.head.labels))]
    label = gr.Dropdown(choices, value=-1, label="Class")
    picture = _picture("Evidence", "evidence")

    @answers
    def explain(video: Input, label: int):
        return showcase.evidence(video, None if label < 0 else showcase.predictor.head.labels[label])

    button.click(explain, [video, label], picture, api_name="evidence", **_ALONE)


def _neighbours(showcase: Showcase, video: gr.Video) -> None:
    button = gr.Button("Find", variant="primary", elem_id="find")
    number = gr.Slider(1, 50, value=8, step=1, label="Matches")
    picture = _picture("Nearest videos", "sheet")
    headers = ["similarity", "video", "start", "end"]
    matches = gr.Dataframe(headers=headers, label="Matches", interactive=False, elem_id="matches")

    @answers
    def find(video: Input, number: int):
        return showcase.neighbours.find(video, int(number))

    button.click(find, [video, number], [picture, matches], api_name="nearest", **_ALONE)
