"""Checkpoints whose weights are integers of few bits: read where their packages are, and computed as floats.

Kernels of quantised layers round the states that they are given, or have no gradient, so that the integral's sums do
not hold. The weights are turned back into floats, once: these are the numbers that the kernels multiply by.
"""

from __future__ import annotations

import importlib.util
from typing import Any

from transformers import PreTrainedModel

from calig.errors import InputError
from calig.faults import of_machine
from calig.models.refusing import named

_PACKAGES = {
    "bitsandbytes": ("bitsandbytes", "accelerate"),
    "gptq": ("gptqmodel", "optimum"),
    "awq": ("gptqmodel",),
}
"""What reads each kind, by its `quant_method`; of others transformers says it itself."""


def quantisation(config: Any, model_id: str) -> str | None:
    """Kind of quantisation of a configuration's weights, such as `bitsandbytes`; None where they are floats.

    Raises
    ------
    InputError
        What reads them is not installed.
    """
    settings = getattr(config, "quantization_config", None)
    if not settings:
        return None
    found = (
        settings.get("quant_method")
        if isinstance(settings, dict)
        else getattr(settings, "quant_method", None)
    )
    method = str(getattr(found, "value", found) or "")
    if isinstance(settings, dict) and not method and any(key.startswith("load_in_") for key in settings):
        method = "bitsandbytes"  # as older versions saved it
    missing = [name for name in _PACKAGES.get(method, ()) if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"model.id: {model_id}: its weights are quantised ({method}), which needs {' and '.join(missing)} to be "
            f"read: pip install {' '.join(missing)}; or name the model that it was made from"
        )
    return method or "quantised"


def dequantised(model: PreTrainedModel, model_id: str, method: str) -> tuple[PreTrainedModel, str]:
    """The same model with weights of floats, and a line that says so.

    Raises
    ------
    InputError
        Its weights cannot be turned back into floats here.
    """
    try:
        found: Any = model.dequantize()  # type: ignore[no-untyped-call]
    except Exception as error:  # whatever a package of another's raises, or none for this hardware
        if of_machine(error):
            raise
        raise InputError(
            f"model.id: {model_id}: its weights are quantised ({method}) and cannot be turned back into floats here "
            f"({named(error)}), without which there are no true gradients; name the model that it was made from"
        ) from error
    return found, (
        f"model.id: {model_id}: its weights are quantised ({method}); they are computed as floats of runtime.dtype, so "
        "that logits may differ a little from those of quantised kernels, which round what they are given"
    )
