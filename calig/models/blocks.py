"""The blocks of a model, and what stands in their place while the model runs.

A stand-in keeps the position of the block it stands for, and whatever else is asked of it is asked of that block:
models choose masks and rotary angles by a block's position in the list, or by its attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from calig.errors import InputError
from calig.models.attention import of_first_row
from calig.models.families import Family, how_to_declare


class Blocks(Sequence[nn.Module]):
    """Blocks 1..L of a model, in order; a module that serves several blocks comes once for each.

    Raises
    ------
    InputError
        The blocks cannot be told.
    """

    def __init__(self, model: PreTrainedModel, family: Family) -> None:
        self._owner, self._attribute = _find(model, family)
        self._listed: nn.ModuleList = getattr(self._owner, self._attribute)
        self._config = model.config
        self._shared = family.shared
        self._entrance = _submodule(model, family.entrance) if family.entrance else None
        self._first_row = family.first_row
        self._modules = list(self._listed)
        if not self._modules or not getattr(model.config, "num_hidden_layers", 1):
            raise InputError(
                f"model.id: {type(model).__name__} has no blocks; correct num_hidden_layers in its config.json"
            )
        if family.shared is not None:
            depth, listed = int(model.config.num_hidden_layers), len(self._listed)
            self._modules = [self._listed[int(i / (depth / listed))] for i in range(depth)]

    def __len__(self) -> int:
        return len(self._modules)

    def __getitem__(self, index: Any) -> Any:
        return self._modules[index]

    @contextmanager
    def replaced(self, by: Sequence[nn.Module]) -> Iterator[None]:
        """Let these L modules run in place of the blocks."""
        setattr(self._owner, self._attribute, nn.ModuleList(by))
        if self._shared is not None:
            setattr(self._config, self._shared, len(by))
        try:
            yield
        finally:
            setattr(self._owner, self._attribute, self._listed)
            if self._shared is not None:
                setattr(self._config, self._shared, len(self._listed))

    @contextmanager
    def watched(self, states: list[Tensor]) -> Iterator[Watched]:
        """Let the blocks note the states that they are given; yields the last, which notes what it returns.

        The state at depth 0 is made a leaf of the autograd graph: gradients reach this far and no further.
        """
        modules = [
            Watched(block, states, leaf=i == 0 and self._entrance is None) for i, block in enumerate(self)
        ]
        with self._through_entrance(_leaf), self.replaced(modules):
            yield modules[-1]

    @contextmanager
    def entered(self, depth: int, state: Tensor, returned: int) -> Iterator[None]:
        """Let the blocks below `depth` do nothing, and what lies above it be given `state`.

        `returned` is how many things a block returns, as `Watched` found.
        """
        through = self._through_entrance(lambda _: state) if depth == 0 else nullcontext()
        modules: list[nn.Module] = list(self)
        if depth > 0 or self._entrance is None:
            modules = [Passed(self[max(depth - 1, 0)], state, returned)] * depth
            modules += [Fed(self[depth], state), *self[depth + 1 :]] if depth < len(self) else []
        if self._first_row is not None and depth < len(self):
            modules[-1] = FirstRow(self[-1], self._first_row, state if depth == len(self) - 1 else None)
        with through, self.replaced(modules):
            yield

    @contextmanager
    def _through_entrance(self, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """Where there is an entrance, change the state at depth 0 that it is given."""
        if self._entrance is None:
            yield
            return

        def changed(_module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            return _with_first(change(_first(args, kwargs)), args, kwargs)

        hook = self._entrance.register_forward_pre_hook(changed, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()


class _StandIn(nn.Module):
    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        object.__setattr__(self, "_block", block)  # not as a submodule: it has its place already

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_block"], name)


class Watched(_StandIn):
    """The block itself; notes the hidden state it is given, and how many things it returns (0: a bare state)."""

    def __init__(self, block: nn.Module, states: list[Tensor], leaf: bool) -> None:
        super().__init__(block)
        self._states = states
        self._leaf = leaf
        self.returned = 0
        self.output: Tensor | None = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the block."""
        state = _first(args, kwargs)
        if self._leaf:
            state = _leaf(state)
            args, kwargs = _with_first(state, args, kwargs)
        self._states.append(state)
        output = self._block(*args, **kwargs)
        self.returned = len(output) if isinstance(output, (tuple, list)) else 0
        self.output = output[0] if self.returned else output
        return output


class Passed(_StandIn):
    """Does nothing but hand on a hidden state, returning as many things as the block would."""

    def __init__(self, block: nn.Module, state: Tensor, returned: int) -> None:
        super().__init__(block)
        self._output = (state, *[None] * (returned - 1)) if returned else state

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Hand the state on."""
        return self._output


class Fed(_StandIn):
    """The block itself, given a hidden state of our own."""

    def __init__(self, block: nn.Module, state: Tensor) -> None:
        super().__init__(block)
        object.__setattr__(self, "_state", state)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the block on the state."""
        args, kwargs = _with_first(self._state, args, kwargs)
        return self._block(*args, **kwargs)


class FirstRow(_StandIn):
    """The last block, of which the head reads the first row alone: no other row is queried or fed forward."""

    def __init__(self, block: nn.Module, names: Sequence[str], state: Tensor | None) -> None:
        super().__init__(block)
        self._names = names
        self._state = state

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the block on the first row (B, 1, D) of the state given, or of a state of our own."""
        state = _first(args, kwargs) if self._state is None else self._state
        args, kwargs = _with_first(state[:, :1], args, kwargs)
        with of_first_row(self._block, self._names, state):
            return self._block(*args, **kwargs)


def _leaf(state: Tensor) -> Tensor:
    return state.detach().requires_grad_(torch.is_grad_enabled())


def _first(args: Any, kwargs: dict[str, Any]) -> Tensor:
    found: Tensor = args[0] if args else next(iter(kwargs.values()))
    return found


def _with_first(state: Tensor, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The same arguments but for the first, which is the state."""
    return ((state, *args[1:]), kwargs) if args else ((), {**kwargs, next(iter(kwargs)): state})


def _submodule(model: PreTrainedModel, path: str) -> nn.Module:
    try:
        return model.get_submodule(path)
    except AttributeError as error:
        raise InputError(
            f"model.id: {type(model).__name__} has nothing at {path!r}, where its family declares it; "
            "correct the declaration"
        ) from error


def _find(model: PreTrainedModel, family: Family) -> tuple[nn.Module, str]:
    """Where the list of blocks is: its owner and its name there."""
    kind = type(model).__name__
    if family.blocks is not None:
        path, _, name = family.blocks.rpartition(".")
        if not isinstance(_submodule(model, family.blocks), nn.ModuleList):
            raise InputError(
                f"model.id: {family.blocks!r} of {kind} is no list of blocks; correct the declaration"
            )
        return _submodule(model, path), name
    count = getattr(getattr(model.config, "vision_config", model.config), "num_hidden_layers", None)
    lists = [
        (owner, name)
        for owner in model.modules()
        for name, child in owner.named_children()
        if isinstance(child, nn.ModuleList) and len(child) == count
    ]
    if len(lists) != 1:
        raise InputError(
            f"model.id: cannot tell the blocks of {kind}: expected one list of {count}, found {len(lists)}; "
            f"{how_to_declare(family.model_type)}"
        )
    return lists[0]
