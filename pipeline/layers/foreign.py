"""Networks that a user brings: how a factory makes one, how it is called, and what it must return."""

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from inspect import BoundArguments, Parameter, Signature, signature
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pipeline.schema.base import SpecError

TIMES = ("t", "time", "times", "timestep", "timesteps", "level", "levels", "noise_level", "noise_labels", "sigma", "s")
"""Names of an argument that is taken for the time, unless the user names another."""
_VARIADIC = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
Form = Literal["scalar", "batch", "integer"]
"""How a network takes the time: [], or one for each image [B], or that as whole numbers."""
FUNCTION: tuple[Form, ...] = ("scalar", "batch")
"""The forms that an ODE function may take, tried in this order; its whole batch shares t."""
DENOISER: tuple[Form, ...] = ("batch", "integer")
"""The forms that a denoiser may take: each image has a level of its own."""


def _quote(error: BaseException) -> str:
    """The kind and the first line of someone else's error."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}".removesuffix(": ")


def make_network(factory: Callable[..., Any], name: str, channels: int, image_size: int) -> nn.Module:
    """Call a factory; it gets `channels` and `image_size` if its signature has them.

    Args:
        name: of the factory, for messages.

    Raises:
        SpecError: it needs something else, fails, or returns nothing that could be trained.
    """
    offered = {"channels": channels, "image_size": image_size}
    try:
        parameters = signature(factory).parameters
    except ValueError:  # of a class written in C
        parameters = Signature().parameters
    for key, parameter in parameters.items():
        if parameter.default is Parameter.empty and parameter.kind not in _VARIADIC and key not in offered:
            raise SpecError(f"{name}: the factory needs {key!r}; it is given {', '.join(offered)} alone")
    try:
        made = factory(**{key: value for key, value in offered.items() if key in parameters})
    except (Exception, SystemExit) as error:
        raise SpecError(f"{name}: the factory fails: {_quote(error)}") from error
    if not isinstance(made, nn.Module):
        raise SpecError(f"{name}: the factory returns a {type(made).__name__}; a torch module is needed")
    if not any(value.requires_grad for value in made.parameters()):
        raise SpecError(f"{name}: the network has no parameter to train")
    return made


class Call:
    """Which arguments of a network's `forward` are the data and the time.

    Args:
        time: the name of the time; None: the first argument whose name is in `TIMES`.

    Raises:
        SpecError: there is no such argument, or further ones are needed.
    """

    def __init__(self, network: nn.Module, name: str, time: str | None = None) -> None:
        self.signature = signature(network.forward)
        names = [key for key, one in self.signature.parameters.items() if one.kind not in _VARIADIC]
        if time is not None and time not in names:
            near = get_close_matches(time, names, 1)
            meant = f" (did you mean {near[0]!r}?)" if near else ""
            raise SpecError(f"{name}: forward has no argument {time!r}{meant}; there are {', '.join(names)}")
        found = time or next((key for key in names if key.lower() in TIMES), None)
        others = [key for key in names if key != found]
        if found is None or not others:
            raise SpecError(
                f"{name}: forward({', '.join(names)}): one argument must be the data, and one the time; looked for "
                f"{', '.join(TIMES)}: wrap the network, or name the time where there is an option for it"
            )
        self.time, self.data = found, others[0]
        self.time_first = names.index(found) < names.index(others[0])
        needed = [key for key in others[1:] if self.signature.parameters[key].default is Parameter.empty]
        if needed:
            raise SpecError(f"{name}: forward also needs {needed[0]!r}: wrap the network in one that knows it")

    def __call__(self, network: nn.Module, x: Tensor, t: Tensor) -> Any:
        """Call the network, by position as far as its signature allows."""
        bound = BoundArguments(self.signature, {self.data: x, self.time: t})
        return network(*bound.args, **bound.kwargs)


def read_output(found: Any) -> Any:
    """The tensor of an output: itself, the first of a tuple, or `sample`, as diffusers has it."""
    if isinstance(found, tuple | list) and found:
        return found[0]
    return getattr(found, "sample", found) if not isinstance(found, Tensor) else found


class ForeignNetwork(nn.Module):
    """A user's network, whose `compute` has this project's convention: x [B, C, H, W], t [], [1] or [B], to x's shape.

    One call, without a gradient, finds the form in which it takes the time.

    Args:
        shape: of an image, (C, H, W).
        forms: to be tried, in this order; a network that takes [] cannot take [B].
        name: for messages.
        time: see `Call`.
        scale: by which the time is multiplied.

    Raises:
        SpecError: the network takes the time in none of these forms, or its output is no tensor of the shape of x, or
            not finite.
    """

    def __init__(
        self,
        network: nn.Module,
        shape: tuple[int, int, int],
        forms: Sequence[Form],
        name: str,
        time: str | None = None,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.inner, self.scale = network, scale
        self.call = Call(network, name, time)
        self.form: Form = forms[0]
        self._find_form(shape, forms, name)

    def compute(self, x: Tensor, t: Tensor) -> Tensor:
        """The network's output at x and t."""
        t = t * self.scale
        if self.form != "scalar":
            t = t.expand(len(x))
        if self.form == "integer":
            t = t.round().long()
        # A copy, as the network may write to its input: to the solver's state, or to inputs that are used again.
        out: Tensor = read_output(self.call(self.inner, x.clone(), t))
        return out

    @torch.no_grad()
    def _find_form(self, shape: tuple[int, int, int], forms: Sequence[Form], name: str) -> None:
        x = torch.linspace(-1, 1, 2 * shape[0] * shape[1] * shape[2]).view(2, *shape)
        was_training = self.inner.training
        self.inner.eval()  # so that batch norm counts nothing
        failure: Exception | None = None
        for form in forms:
            self.form = form
            try:
                out = self.compute(x, torch.tensor(0.5 / self.scale if form != "integer" else 1.0))
                break
            except Exception as error:
                failure = failure or error
        else:
            assert failure is not None
            raise SpecError(f"{name}: forward fails at x {[2, *shape]}: {_quote(failure)}") from failure
        self.inner.train(was_training)
        _check_output(out, x, name)


class ForeignDenoiser(ForeignNetwork):
    """A user's denoiser: (x [B, C, H, W], level [B] or [1], float) to the shape of x; arguments as above."""

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        return self.compute(x, level)


class ForeignFunction(ForeignNetwork):
    """A user's ODE function: (t [], x [B, C, H, W]) to the shape of x; arguments as above."""

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.compute(x, t)


def _check_output(out: Any, x: Tensor, name: str) -> None:
    if not isinstance(out, Tensor):
        raise SpecError(f"{name}: forward returns a {type(out).__name__}; a tensor is needed")
    if out.shape != x.shape:
        raise SpecError(f"{name}: forward gives {list(out.shape)} for x {list(x.shape)}; the same shape is needed")
    if not out.isfinite().all():
        raise SpecError(f"{name}: the output of forward is not finite before the first step")
