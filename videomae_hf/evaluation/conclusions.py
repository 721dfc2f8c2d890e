# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""What follows from the numbers of a report, in words.

Every sentence follows from a 95 % interval; of a difference, from that of the difference on the same videos. One rule
holds for all (`_verdict`): if the whole interval is below the margin of 5 points, there is no effect worth speaking of;
if it is above 0, there is one; otherwise these videos cannot tell.
"""

from typing import Any

from .confidence import Interval
from .findings import MARGIN
from .number_texts import NumberTexts


_FEW_UNITS = 10  # groups or videos below which an interval is itself uncertain
_FEWEST_WRONG = 10  # videos that a shortcut gets wrong, below which the model's score on them says nothing


def conclusions(found: dict[str, Any]) -> list[str]:
    """Sentences for people, the most important first.

    Args:
        found: the result of `find`.
    """
    text = _Text(found)
    better, lines = text.level()
    if found["score"]["interval"] is not None:
        lines += text.shortcuts(better=better)
        lines += text.motion() if better else text.no_motion()
        lines += text.robustness() if better else []
    return [*lines, *text.calibration(), *text.reservations()]


class _Text(NumberTexts):
    """The sentences about one report."""

    def __init__(self, found: dict[str, Any]) -> None:
        super().__init__(found["metric"])
        self.found = found
        # A mean absolute error has a unit: its margin is a part of the error of a constant prediction.
        self.margin = MARGIN if self.is_rate else MARGIN * found["baselines"]["constant"]["value"]

    def points(self, value: float, interval: Interval | None) -> str:
        return self.difference(value, interval, " points")

    def level(self) -> tuple[bool, list[str]]:
        """Whether the model is better than a prediction without looking, and the sentences about that."""
        score, baselines = self.found["score"], self.found["baselines"]
        if score["interval"] is None:
            only = f"there is only one {self.found['interval_by']}"
            why = only if self.found["units"] < 2 else "there are too many scores to resample"
            return False, [f"No interval can be given for the score ({why}), so that nothing follows from it."]
        low, high = score["interval"]
        lines, chance = [], baselines.get("chance")
        if chance and low <= chance["value"] <= high:
            lines.append(f"The interval includes chance ({self.value(chance['value'])}): nothing shows that the model "
                         "has learned anything.")  # fmt: skip
        elif chance and high < chance["value"]:
            lines.append(f"The score is below chance ({self.value(chance['value'])}): are the classes in the order of "
                         "the training?")  # fmt: skip
        rest = baselines.get("majority") or baselines["constant"]
        what = f"always answering {rest['class']!r}" if "class" in rest else rest["title"]
        ahead, value = self.points(rest["ahead"], rest["ahead_interval"]), self.value(rest["value"])
        better = rest["ahead_interval"] is not None and rest["ahead_interval"][0] > 0
        small = rest["ahead_interval"] is not None and _verdict(rest["ahead_interval"], self.margin) == "none"
        if better:
            lines.append(f"It is {'hardly ' if small else ''}better than {what} ({value}): {ahead}.")
        else:
            shown = "no better" if small else "not shown to be better"
            lines.append(f"It is {shown} than {what} ({value}): the difference is {ahead}.")
        return better, lines

    def shortcuts(self, *, better: bool) -> list[str]:
        """About file metadata, mean colour, and the group."""
        lines = []
        for one in self.found.get("shortcuts", {}).values():
            if "problem" in one or one["over_majority_interval"] is None:
                continue
            name, gain = one["title"].capitalize(), self.points(one["over_majority"], one["over_majority_interval"])
            verdict = _verdict(one["over_majority_interval"], MARGIN)
            if verdict == "effect":
                lines.append(self._shortcut(name, one))
            elif verdict == "none":
                lines.append(f"{name}: no shortcut was found ({self.value(one['value'])}, no better than the most "
                             f"frequent class).")  # fmt: skip
            else:
                lines.append(f"{name} reach {self.value(one['value'])}; whether that is more than the most frequent "
                             f"class, these videos cannot tell ({gain}).")  # fmt: skip
        group = self.found["baselines"].get("group")
        if group and better and group["ahead_interval"] is not None and group["ahead_interval"][0] <= 0:
            lines.append(
                f"Whoever knows only the group, and answers the most frequent class of its other videos, reaches "
                f"{self.value(group['value'])}; the model is not better than that "
                f"({self.points(group['ahead'], group['ahead_interval'])}): it may tell the groups apart, and not "
                f"the classes."
            )
        return lines

    def _shortcut(self, name: str, one: dict[str, Any]) -> str:
        """A sentence about a shortcut that is better than the majority."""
        ahead, (low, high) = self.points(one["ahead"], one["ahead_interval"]), one["ahead_interval"]
        line = f"{name} reach {self.value(one['value'])}, the model {self.value(self.found['score']['value'])}: "
        wrong = one["where_wrong"]
        enough = wrong["videos"] >= _FEWEST_WRONG and wrong["interval"] is not None
        follows = not enough or wrong["interval"][0] <= self.found["baselines"]["majority"]["value"]
        if low > 0:
            line += f"there is a shortcut, but the model is better than it by {ahead}."
        elif high < 0:
            line += f"there is a shortcut, and the model is worse than it (difference {ahead})."
        else:
            shown = "no better" if high < MARGIN else "not shown to be better"
            line += f"{shown} (difference {ahead}). "
            line += (
                "It may have learned this shortcut and not the question." if follows else "But it does not follow it."
            )
        if enough:
            line += f" Of the {wrong['videos']} videos that the shortcut gets wrong, the model gets " \
                    f"{self.value(wrong['value'])} right ({self.span(wrong['interval'])})."  # fmt: skip
        return line

    def motion(self) -> list[str]:
        """About the order of the frames and motion."""
        lines, perturbed = [], self.found["perturbed"]
        texts = {
            "shuffled": ("Shuffling the frames", "it uses their order",
                         "it does not use the order of the frames, such as the direction of a motion"),
            "first_frame": ("Repeating the first frame", "it uses what changes over time",
                            "it does not use motion; one frame is enough for it"),
            "reversed": ("Reversing the frames", "it uses the direction of time",
                         "the direction of time plays no part"),
        }  # fmt: skip
        for name, (change, effect, none) in texts.items():
            one = perturbed.get(name)
            if one is None or one["loss_interval"] is None:
                continue
            loss, verdict = self.points(one["loss"], one["loss_interval"]), _verdict(one["loss_interval"], self.margin)
            if verdict == "effect":
                lines.append(f"{change} costs {loss}: {effect}.")
            elif verdict == "none":
                much = "next to nothing" if one["loss_interval"][0] > 0 else "nothing"
                lines.append(f"{change} changes {much} ({loss}): {none}.")
            else:
                lines.append(f"{change}: these videos cannot tell whether it costs anything ({loss}).")
        return lines

    def no_motion(self) -> list[str]:
        if not self.found["perturbed"]:
            return []
        return ["Since the score is no better than that of a constant answer, the scores on changed clips say nothing."]

    def robustness(self) -> list[str]:
        """About changes that leave the content, where they cost more than the margin."""
        lines = []
        for name in ("half_rate", "noise", "occluded"):
            one = self.found["perturbed"].get(name)
            if one and one["loss_interval"] is not None and one["loss_interval"][0] > self.margin:
                lines.append(f"It is sensitive to a change: {one['title']} costs "
                             f"{self.points(one['loss'], one['loss_interval'])}.")  # fmt: skip
        return lines

    def calibration(self) -> list[str]:
        found = self.found.get("calibration")
        gap = found["confidence"] - found["accuracy"] if found else 0
        if abs(gap) <= MARGIN or not found["gap_interval"] or found["gap_interval"][0] <= 0 <= found["gap_interval"][1]:
            return []
        too = "high" if gap > 0 else "low"
        return [f"Its probabilities are too {too} (mean {found['confidence']:.2f}, accuracy {found['accuracy']:.2f}, "
                f"calibration error {found['ece']:.2f}): do not take them at their word."]  # fmt: skip

    def reservations(self) -> list[str]:
        """Why the intervals themselves may be wrong."""
        units = self.found["units"]
        if self.found["interval_by"] == "group" and 1 < units < _FEW_UNITS:
            return [f"There are only {units} groups: the intervals are rough, and rather too narrow."]
        if self.found["interval_by"] == "video":
            return ["The intervals take every video as independent. Where several are of one recording, person or "
                    "place, they are too narrow: name these with --group_column or --group_pattern."]  # fmt: skip
        return []


def _verdict(interval: tuple[float, float], margin: float) -> str:
    """`"none"`, `"effect"` or `"unknown"`, of the interval of a difference."""
    low, high = interval
    return "none" if high < margin else "effect" if low > 0 else "unknown"
