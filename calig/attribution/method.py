"""What is computed, as one value: everything that changes an attribution's numbers, and how it is read out."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from calig.attribution.quadrature import RULES, Rule, rule
from calig.errors import InputError
from calig.formats import ENGINE_VERSION as ENGINE_VERSION

OUTPUTS = ("logit", "margin")
CONTEXTS = ("path", "input")
FUSIONS = ("agreement", "column")


@dataclass(frozen=True, slots=True)
class Method:
    """The choices of the method (METHOD: definitions 1–3).

    Attributes
    ----------
    target
        The explained class: `predicted`, `runner-up`, `label`, a class index or a class name.
    output
        `logit`: the target's logit; `margin`: the target's logit minus the strongest other.
    baseline
        What replaces the content. Of texts: `pad` (another token's row where the padding token's cannot be integrated
        from, see `baselines.settle`), `mask`, `zero` (a zero word embedding) or `token:<text>`. Of images:
        `zero` (pixel values of zero, what padding is, so that `pad` means it too), `mean` (the image's mean colour),
        `blur` or `blur:<sigma in pixels>`, or `mask` (the model's own mask token, where it has one).
    context
        Where attention gradients are taken: averaged along the path at the nodes of LIG, or at the input alone.
    tolerance
        Bound on the relative L2 error of the token vector, per document and depth.
    max_nodes
        Most quadrature nodes spent on one document and depth; beyond, it is reported as not converged.
    max_length
        Longest text in tokens; None: the model's own limit.
    image_size
        Height and width of images in pixels, for which position embeddings are interpolated; None: the processor's.
    rule
        Quadrature rule: `auto`, a spline on a mesh that each document refines for itself; or a ladder of `midpoint`,
        `trapezoid`, `gauss-kronrod` or `gauss-legendre` rules.
    steps
        Exactly so many nodes of the rule, whatever the error, which is still estimated; None: as many as it takes.
    fusion, weight
        How depths and context are fused into scores (`agreement` or `column`, see `calig.attribution.fusion`), and λ,
        the weight of context. They change no stored number.

    Raises
    ------
    InputError
        A choice does not exist or a number is out of range.
    """

    target: str | int = "predicted"
    output: str = "logit"
    baseline: str = "pad"
    context: str = "path"
    tolerance: float = 1e-2
    max_nodes: int = 486
    max_length: int | None = None
    image_size: int | None = None
    rule: str = "auto"
    steps: int | None = None
    fusion: str = "agreement"
    weight: float = 0.5

    def __post_init__(self) -> None:
        choices = {"output": OUTPUTS, "context": CONTEXTS, "rule": RULES, "fusion": FUSIONS}
        for field, allowed in choices.items():
            if getattr(self, field) not in allowed:
                raise InputError(
                    f"method.{field}: {getattr(self, field)!r} is not one of {', '.join(allowed)}"
                )
        if not 0 < self.tolerance < 1:
            raise InputError(f"method.tolerance: {self.tolerance} must be above 0 and below 1")
        if not 0 <= self.weight <= 1:
            raise InputError(f"method.weight: {self.weight} must be from 0 to 1")
        if self.max_nodes < 6:
            raise InputError(f"method.max_nodes: {self.max_nodes} must be 6 or more, to climb at all")
        try:
            _ = self.quadrature
        except ValueError as error:
            raise InputError(f"method.steps: {error}") from error

    @property
    def quadrature(self) -> Rule:
        """The rule, up to its most nodes or with its fixed steps."""
        return rule(self.rule, self.max_nodes, self.steps)

    def identity(self) -> dict[str, object]:
        """The choices that change stored numbers: what attribution and schedule keys are made of.

        The target is none of them: a stored row says which class it explains, whatever asked for that class.
        """
        chosen = {k: v for k, v in asdict(self).items() if k not in ("target", "fusion", "weight")}
        if self.image_size is None:
            del chosen["image_size"]
        return chosen
