"""How numbers are written on the page. `None` and non-finite values are an en dash; minus is U+2212."""

from __future__ import annotations

import math

from calig.rows import plural as plural

MISSING = "–"


def integer(value: float | None) -> str:
    """A count with thousands separators: 12,345."""
    return MISSING if not _known(value) else _minus(f"{value:,.0f}")


def number(value: float | None, digits: int = 3) -> str:
    """A quantity to `digits` significant digits, as 0.0123, 1,240 or 1.2e−5."""
    if not _known(value):
        return MISSING
    assert value is not None
    size = abs(value)
    if size == 0:
        return "0"
    if size < 1e-4:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return _minus(f"{mantissa}e{int(exponent)}")
    decimals = max(0, digits - 1 - math.floor(math.log10(size)))
    return _minus(f"{value:,.{decimals}f}")


def alike(*values: float | None, sign: bool = False) -> tuple[str, ...]:
    """Quantities that belong together: three decimals each, or two significant digits if all are below 0.0005."""
    small = all(abs(value) < 0.0005 for value in values if value is not None and math.isfinite(value))
    return tuple(_alike(value, small, sign) for value in values)


def _alike(value: float | None, small: bool, sign: bool) -> str:
    if not _known(value):
        return MISSING
    assert value is not None
    if small:
        return signed(value, 2) if sign else number(value, 2)
    rounded = round(value, 3) + 0.0  # which turns −0.0 into 0.0
    return ("+" if sign and rounded > 0 else "") + _minus(f"{rounded:,.3f}")


def interval(low: float | None, high: float | None) -> str:
    """An interval, [0.012, 0.034], or that there is none: of means of one or two documents."""
    if not _known(low) or not _known(high):
        return "too few documents for an interval"
    return "[" + ", ".join(alike(low, high)) + "]"


def plain(value: float | None) -> str:
    """A setting as it was given: 0.01, 0.5, 3."""
    return MISSING if not _known(value) else _minus(f"{value:.15g}")


def signed(value: float | None, digits: int = 3) -> str:
    """Like `number`, with its sign: +0.53, −0.53."""
    text = number(value, digits)
    return "+" + text if _known(value) and value is not None and value > 0 else text


def percent(value: float | None) -> str:
    """A share as a percentage; what is not all or nothing is never rounded to 100 % or 0 %."""
    if not _known(value):
        return MISSING
    assert value is not None
    if value in (0, 1):
        return f"{value * 100:.0f} %"
    shown = round(value * 100, 1)
    if shown >= 100 > value * 100:
        return "> 99.9 %"
    if shown <= 0 < value:
        return "< 0.1 %"
    return _minus(f"{shown:.1f} %")


def duration(seconds: float | None) -> str:
    """Seconds as 0.42 s, 12 s, 3 min 25 s or 2 h 05 min."""
    if not _known(seconds):
        return MISSING
    assert seconds is not None
    if seconds < 10:
        return f"{number(seconds, 2)} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _minus(text: str) -> str:
    return text.replace("-", "−")
