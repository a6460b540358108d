"""The peers that CA-LIG is compared with, by name: what each is, where it is from, and where it does not apply.

All explain the same `Case`s of any model that calig reads. The only thing they see of a model is
`calig.models.classifier.Classifier`: none knows a family.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from calig.attribution.quadrature import Float64
from calig.evaluation.attention_peers import (
    attcat,
    attention_grad_cam,
    attention_rollout,
    attention_x_gradient,
)
from calig.evaluation.gradient_peers import (
    deeplift,
    gradient_shap,
    input_x_gradient,
    no_rescale_rule,
    smoothgrad,
)
from calig.evaluation.perturbation_peers import kernel_shap, lime, occlusion
from calig.evaluation.subject import Case, Subject


def _always(_subject: Subject) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Peer:
    """A method of explanation that is not ours.

    Attributes
    ----------
    name
        As in the warehouse.
    title
        As readers know it.
    reference
        Authors and year of the paper.
    explain
        Signed scores (T,) of each case, in order. A case's scores depend on nothing else that is explained with it.
    refusal
        Why it cannot explain this model or is not installed, in one line that says what to do; None where it can.
    """

    name: str
    title: str
    reference: str
    explain: Callable[[Subject, Sequence[Case]], list[Float64]]
    refusal: Callable[[Subject], str | None] = _always


def random(subject: Subject, cases: Sequence[Case]) -> list[Float64]:
    """Scores drawn from a standard normal distribution: what a method must beat."""
    return [subject.generator(case, "random").standard_normal(len(case.encoded)) for case in cases]


def _needs(*modules: str) -> Callable[[Subject], str | None]:
    """The refusal of a method that needs libraries of the extra `evaluate`."""
    names = {"sklearn": "scikit-learn"}

    def refusal(_subject: Subject) -> str | None:
        missing = [names.get(module, module) for module in modules if find_spec(module) is None]
        verb = "is" if len(missing) == 1 else "are"
        return f"{' and '.join(missing)} {verb} missing: pip install 'calig[evaluate]'" if missing else None

    return refusal


def _cannot_rescale(subject: Subject) -> str | None:
    return _needs("captum")(subject) or no_rescale_rule(subject)


PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer("input-x-gradient", "Input × Gradient", "Shrikumar et al., 2016", input_x_gradient),
        Peer("smoothgrad", "SmoothGrad × Input", "Smilkov et al., 2017", smoothgrad, _needs("captum")),
        Peer("gradient-shap", "GradientSHAP", "Erion et al., 2021", gradient_shap, _needs("captum")),
        Peer("deeplift", "DeepLIFT (rescale)", "Shrikumar et al., 2017", deeplift, _cannot_rescale),
        Peer("lime", "LIME", "Ribeiro et al., 2016", lime, _needs("captum", "sklearn")),
        Peer("kernel-shap", "KernelSHAP", "Lundberg and Lee, 2017", kernel_shap, _needs("captum", "sklearn")),
        Peer("occlusion", "Occlusion", "Zeiler and Fergus, 2014", occlusion, _needs("captum")),
        Peer("attention-rollout", "Attention rollout", "Abnar and Zuidema, 2020", attention_rollout),
        Peer("attention-x-gradient", "Chefer generic", "Chefer, Gur and Wolf, 2021", attention_x_gradient),
        Peer("attcat", "AttCAT", "Qiang et al., 2022", attcat),
        Peer("attention-grad-cam", "Attention Grad-CAM", "Selvaraju et al., 2017", attention_grad_cam),
        Peer("random", "Random", "", random),
    )
}
"""All peers, by name."""
