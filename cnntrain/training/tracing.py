"""A step as the bare list of torch's operations: written down while it is carried out, then called one by one.

What is left out is what Python and autograd do between operations, which at small batches takes as long as some of
them. Operations, their order and their arguments are the same, and so are the results, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.weak import TensorWeakRef

# Python may decide by what these give, or by its shape: what follows is not the same in every step. A tensor that
# is read by `tolist` or `numpy` is not noticed, which is why no plugin's part is traced.
UNFORESEEABLE = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
# Where a tensor carries its name; it holds as long as the tensor, so that nothing has to be kept for its sake.
MARK = "_traced_as"


class Name(str):
    """What a tensor is called in a trace."""


@dataclass(frozen=True)
class Call:
    """One operation: `outputs` names what it makes, and `args` and `kwargs` have names in the place of tensors."""

    function: Callable[..., Any]
    args: Any
    kwargs: Any
    outputs: Name | tuple[Name, ...] | None

    def names(self) -> Iterator[Name]:
        """All names in it."""
        return (leaf for leaf in tree_leaves((self.args, self.kwargs, self.outputs)) if isinstance(leaf, Name))


@dataclass
class Trace:
    """The operations of a step with so many `inputs`.

    Constants are tensors that were there before, like weights, and views of them, which are made `once`.
    `result` is what it gives.
    """

    inputs: int
    constants: list[Tensor] = field(default_factory=list)
    once: list[Call] = field(default_factory=list)
    each: list[Call] = field(default_factory=list)
    result: Name | None = None
    is_foreseeable: bool = True

    def is_same(self, other: Trace) -> bool:
        """Whether the other has the same operations on the same constants."""
        constants = [id(constant) for constant in self.constants]
        others = [id(constant) for constant in other.constants]
        return (constants, self.once, self.each, self.result) == (others, other.once, other.each, other.result)


class Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down into `trace` what is carried out within it."""

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.trace = Trace(len(inputs))
        self._lasting = {id(tensor): Name(f"input{number}") for number, tensor in enumerate(inputs)}
        self._marked: list[TensorWeakRef] = []
        self._count = 0
        self._is_paused = False

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Nothing is compiled in a step that is written down; torch would import its compiler to make sure of it.
        return False

    def __exit__(self, *error: Any) -> None:
        """Take the marks away: what outlives the step may be saved."""
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        for marked in self._marked:
            tensor = marked()
            if tensor is not None:
                delattr(tensor, MARK)

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Carry the operation out, and write it down."""
        outcome = func(*args, **(kwargs or {}))
        # torch's optimizers announce themselves to the profiler.
        if not self._is_paused and func.namespace != "profiler":
            self.trace.is_foreseeable &= is_foreseeable(func, args)
            if func is torch.ops.aten.detach.default:
                self._mark(outcome, self._name(args[0]))
            else:
                self._write(func, args, kwargs or {}, outcome, is_view(func))
        return outcome

    def as_one(self, function: Callable[..., object]) -> Callable[..., None]:
        """The function, written down as one call whatever it does."""

        def call(*args: Any) -> None:
            self._is_paused = True
            try:
                function(*args)
            finally:
                self._is_paused = False
            self._write(function, args, {}, None, gives_view=False)

        return call

    def give(self, tensor: Tensor) -> None:
        """Let this be what a call of the trace gives."""
        self.trace.result = self._name(tensor)

    def _write(self, function: Any, args: Any, kwargs: Any, outcome: Any, gives_view: bool) -> None:
        given = [id(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        args, kwargs = tree_map_only(Tensor, self._name, (tuple(args), kwargs))
        names = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Name)]
        is_fixed = gives_view and all(name.startswith(("constant", "fixed")) for name in names)
        kind = "fixed" if is_fixed else "value"

        def name_of_output(output: Any) -> Name:
            self.trace.is_foreseeable &= isinstance(output, Tensor | None)
            name = Name(f"{kind}{self._count}")
            self._count += 1
            if isinstance(output, Tensor) and id(output) not in given:
                self._mark(output, name)
            return name

        outputs: Any = None
        if isinstance(outcome, list | tuple):
            outputs = tuple(map(name_of_output, outcome))
        elif outcome is not None and id(outcome) not in given:
            outputs = name_of_output(outcome)
        (self.trace.once if is_fixed else self.trace.each).append(Call(function, args, kwargs, outputs))

    def _name(self, tensor: Tensor) -> Name:
        tracer, name = getattr(tensor, MARK, (None, Name()))
        if tracer is self:
            return name
        if id(tensor) not in self._lasting:
            self._lasting[id(tensor)] = Name(f"constant{len(self.trace.constants)}")
            self.trace.constants.append(tensor)
        return self._lasting[id(tensor)]

    def _mark(self, tensor: Tensor, name: Name) -> None:
        setattr(tensor, MARK, (self, name))
        self._marked.append(TensorWeakRef(tensor))


def is_foreseeable(operation: Any, args: Sequence[Any]) -> bool:
    """Whether neither Python nor a shape learns of the values that it works on."""
    if operation is torch.ops.aten.index.Tensor:
        # Only a mask picks as many elements as it has set.
        return all(index is None or index.dtype in (torch.int64, torch.int32) for index in args[1])
    return not UNFORESEEABLE.intersection(operation.tags)


def is_view(operation: Any) -> bool:
    """Whether it changes nothing, and gives its argument's memory in another shape."""
    schema = operation._schema
    return not schema.is_mutable and any(returned.alias_info is not None for returned in schema.returns)


def program(trace: Trace) -> Callable[..., Any]:
    """A function of the trace's inputs that calls its operations; each value is let go after its last use."""
    namespace: dict[str, Any] = {f"constant{number}": tensor for number, tensor in enumerate(trace.constants)}
    text = _Text(namespace)
    # Read by no user, and made of nothing but names: a function written out is faster than one that reads a list.
    exec("\n".join(map(text.of, trace.once)), namespace)
    last = {name: index for index, call in enumerate(trace.each) for name in call.names() if name.startswith("value")}
    if trace.result:
        last.pop(trace.result, None)
    ends: dict[int, list[str]] = {}
    for name, index in last.items():
        ends.setdefault(index, []).append(name)
    lines = chain.from_iterable(
        [text.of(call), *([f"del {', '.join(ends[index])}"] if index in ends else [])]
        for index, call in enumerate(trace.each)
    )
    inputs = ", ".join(f"input{number}" for number in range(trace.inputs))
    exec("\n    ".join([f"def run({inputs}):", *lines, f"return {trace.result}"]), namespace)
    run: Callable[..., Any] = namespace["run"]
    return run


class _Text:
    """Calls as lines of Python; what is no tensor is put into the namespace."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self._namespace = namespace

    def of(self, call: Call) -> str:
        """The line that carries it out."""
        # A layer of Python less than the operation itself has.
        function = self._bound(getattr(call.function, "_op", call.function))
        args = [self._argument(value) for value in call.args]
        kwargs = [f"{key}={self._argument(value)}" for key, value in call.kwargs.items()]
        line = f"{function}({', '.join(args + kwargs)})"
        if isinstance(call.outputs, Name):
            return f"{call.outputs} = {line}"
        return f"{', '.join(call.outputs)}, = {line}" if call.outputs else line

    def _argument(self, value: Any) -> str:
        if isinstance(value, Name):
            return value
        if isinstance(value, list | tuple) and any(isinstance(leaf, Name) for leaf in tree_leaves(value)):
            return f"[{', '.join(map(self._argument, value))}]"
        return self._bound(value)

    def _bound(self, value: Any) -> str:
        name = f"other{len(self._namespace)}"
        self._namespace[name] = value
        return name
