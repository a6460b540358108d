"""Model families: what cannot be told from a model itself.

Almost no family needs a declaration. A classifier is read as *embeddings → blocks 1..L → head* when it has one list of
`num_hidden_layers` blocks, each taking the hidden state first and returning it (first), and when its attention goes
through `transformers.AttentionInterface` or comes out of `output_attentions=True`. Where that is not so, a `Family`
says what differs, under the `model_type` of the model's configuration:

    from calig import Family, declare_family

    declare_family(
        Family(
            "my-model",                    # config.model_type
            blocks="encoder.stages",       # model.encoder.stages is the list of blocks
            attention="attention.dropout", # in each block, the probabilities leave block.attention.dropout
        )
    )

An installed package declares one without being imported, through the entry-point group `calig.families`:

    [project.entry-points."calig.families"]
    my-model = "my_package.explained:FAMILY"       # FAMILY = Family("my-model", …)

Whatever is declared, `Classifier` verifies on a tiny input that the model so read gives the model's own answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from calig.errors import InputError


@dataclass(frozen=True, slots=True)
class Family:
    """What differs in a family of models; a field left out means the usual.

    Parameters
    ----------
    model_type
        The `model_type` of its configuration.
    blocks
        Dotted path, from the model, of the list of blocks. Usual: the one list of `num_hidden_layers` modules.
    shared
        Where the listed modules serve several blocks in turn: the name, in the configuration, of how many there are.
        While the model runs, the list is written out block by block and that number is L.
    entrance
        Where more than the first block reads the hidden state at depth 0: the dotted path, from the model, of the
        module that is given it first of all its arguments.
    attention
        Where attention probabilities (B, heads, T, T) are found: `interface` (the attention function that the
        configuration names), `outputs` (`output_attentions=True`), or the dotted path, within a block, of the module
        whose output they are, such as the dropout they pass through. Usual: `interface`, else `outputs`.
    first_row
        Where the head reads only the first token's state of the last block: the linear maps, within a block, that make
        keys and values. That block is then run for the first row alone, which takes a sixth of the work.
    eager
        Whether its attention can be seen only where the model is loaded with the written-out kind, which is slower.
    special
        Of an image model: names of the tokens it puts before the patches. Usual: `[CLS]`, then `[REG1]`, `[REG2]`, …
    refusal
        Why the family cannot be explained, where that is so.
    """

    model_type: str
    blocks: str | None = None
    shared: str | None = None
    entrance: str | None = None
    attention: str | None = None
    first_row: tuple[str, str] | None = None
    eager: bool = False
    special: tuple[str, ...] = ()
    refusal: str | None = None


_declared: dict[str, Family] = {}


def declare_family(family: Family) -> None:
    """Declare a family, in place of what its `model_type` meant before."""
    _declared[family.model_type] = family


def declared_families() -> tuple[Family, ...]:
    """The families declared in this process."""
    return tuple(_declared.values())


def family_of(config: Any) -> Family:
    """The family of a configuration: declared here, by the user or by an installed package, else a usual one.

    Raises
    ------
    InputError
        The family is known not to be explainable, or an installed declaration cannot be loaded.
    """
    name = str(config.model_type)
    family = _declared.get(name) or _installed().get(name) or _KNOWN.get(name) or Family(name)
    if family.refusal:
        raise InputError(f"model.id: {name} models cannot be explained: {family.refusal}")
    return family


def how_to_declare(model_type: str) -> str:
    """The end of a message about a model that cannot be read as it is."""
    return f"say how to read it with calig.declare_family(Family({model_type!r}, …)): see help('calig.models.families')"


@cache
def _installed() -> dict[str, Family]:
    found: dict[str, Family] = {}
    for point in entry_points(group="calig.families"):
        try:
            family = point.load()
        except Exception as error:  # whatever an installed package raises
            raise InputError(
                f"calig.families: {point.value} cannot be loaded ({error}); mend or remove it"
            ) from error
        if not isinstance(family, Family):
            raise InputError(f"calig.families: {point.value} is no calig.Family; mend or remove it")
        found[family.model_type] = family
    return found


_BANDED = "their attention is a band around each token, not tokens × tokens"

_WINDOWED = (
    "they attend within windows and merge patches from stage to stage, so that a token is another piece of the image "
    "at every depth, and there is no attention of tokens × tokens; use a plain vision transformer (ViT, DeiT, BEiT, "
    "DINOv2, …)"
)
_HIERARCHICAL = (
    "they pool or merge patches from stage to stage, so that a token is another piece of the image at every depth; "
    "use a plain vision transformer (ViT, DeiT, BEiT, DINOv2, …)"
)
_CONVOLUTIONAL = "they are convolutional: they have no tokens and no attention; use a vision transformer"
_REFUSED = {
    _BANDED: ("longformer", "big_bird"),
    _WINDOWED: ("swin", "swinv2", "donut-swin", "maskformer-swin", "swin2sr", "dinat", "nat", "focalnet"),
    _HIERARCHICAL: (
        *("pvt", "pvt_v2", "segformer", "cvt", "levit", "hiera", "mobilevit", "mobilevitv2", "poolformer"),
        *("swiftformer", "efficientformer"),
    ),
    _CONVOLUTIONAL: (
        *(
            "bit",
            "convnext",
            "convnextv2",
            "efficientnet",
            "hgnet_v2",
            "mobilenet_v1",
            "mobilenet_v2",
            "pp_lcnet",
        ),
        *("regnet", "resnet", "textnet", "van"),
    ),
    "their latent tokens are no pieces of the input": ("perceiver",),
    "it predicts pixels of an image one by one, and its tokens are colour clusters": ("imagegpt",),
    "their patches come cut beforehand and padded, which is not supported yet": ("siglip2",),
    "they pool or merge tokens between blocks, so that a token is another piece of the text at every depth": (
        *("funnel", "canine"),
    ),
    "they mix tokens without attention, by a Fourier transform": ("fnet",),
    "their attention is hashed or approximated, and there is no map of tokens × tokens": (
        "mra",
        "yoso",
        "reformer",
    ),
    "their attentions, norms and feed-forward parts lie in lists of their own, and are no blocks": (
        "xlm",
        "flaubert",
    ),
    "their blocks do not take and return a state of texts × tokens × numbers": ("squeezebert", "xlnet"),
    "they read words with their boxes on a page, and a text has none": ("lilt", "layoutlmv2", "layoutlmv3"),
    "they read the nodes of an HTML page, and a text has none": ("markuplm",),
    "they read a table beside the text, and a text alone has none": ("tapas",),
    "their blocks pass integers with a scale beside each, which are no states to integrate along": ("ibert",),
    "the model inside is timm's, whose blocks do not follow transformers' conventions": ("timm_wrapper",),
}

_BERT_LIKE = ("bert", "roberta", "xlm-roberta", "camembert", "electra", "ernie", "data2vec-text")

_KNOWN = {
    family.model_type: family
    for family in (
        *(Family(name, first_row=("attention.self.key", "attention.self.value")) for name in _BERT_LIKE),
        Family("distilbert", first_row=("attention.k_lin", "attention.v_lin")),
        Family("albert", blocks="albert.encoder.albert_layer_groups", shared="num_hidden_groups"),
        Family("deberta-v2", entrance="deberta.encoder"),  # its convolution reads the embeddings as well
        Family("mobilebert", blocks="mobilebert.encoder.layer"),
        Family("data2vec-vision", eager=True),
        Family("deit", special=("[CLS]", "[DIST]")),
        *(Family(name, refusal=why) for why, names in _REFUSED.items() for name in names),
    )
}
