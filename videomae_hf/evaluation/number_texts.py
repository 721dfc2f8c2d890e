# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The numbers of a report as texts: rates in percent, errors in the unit of the data."""

from .confidence import Interval


class NumberTexts:
    """How numbers of a metric are written.

    Args:
        metric: `metric` of the findings.
    """

    def __init__(self, metric: str) -> None:
        self.is_rate = metric != "mae"

    def value(self, value: float | None) -> str:
        """A score: "75.0 %"; "-" for none."""
        if value is None:
            return "-"
        return f"{100 * value:.1f} %" if self.is_rate else f"{value:.4g}"

    def span(self, interval: Interval | None) -> str:
        """An interval: "70.1 to 79.5 %"; "" for none."""
        if interval is None:
            return ""
        low, high = interval
        return f"{100 * low:.1f} to {100 * high:.1f} %" if self.is_rate else f"{low:.4g} to {high:.4g}"

    def difference(self, value: float | None, interval: Interval | None, unit: str = "") -> str:
        """A difference and its interval: "3.1 points [-0.4 to 6.6]" for the unit " points"; "" for none."""
        if value is None:
            return ""
        value, *ends = (self._signed(number) for number in (value, *(interval or ())))
        return value + (unit if self.is_rate else "") + (" [{} to {}]".format(*ends) if ends else "")

    def _signed(self, number: float) -> str:
        text = f"{100 * number:.1f}" if self.is_rate else f"{number:.3g}"
        return "0.0" if text == "-0.0" else text
