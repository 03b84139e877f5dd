"""`python -m tests.pretended_gpu train c.yaml --device cuda`: the command line with a GPU that isn't there.

Tensors that are made on it, or of such that are, say that they are on `cuda:0`, and are worked on by the CPU. What
CUDA refuses is refused: tensors of two devices in one operation, arrays of NumPy, and, while steps are recorded,
whatever waits for the device. A graph is a list of operations that is called at each launch.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad
from torch.optim import optimizer as optimizers
from torch.overrides import TorchFunctionMode
from torch.utils import _foreach_utils
from torch.utils.weak import WeakIdKeyDictionary

from cnntrain.training import recording
from cnntrain.training.tracing import Tracer, program

GPU = torch.device("cuda", 0)
# By identity, since a tensor can't be asked for its device without asking this.
MARKED = WeakIdKeyDictionary()
# Whether waiting for the device is refused just now, and how often graphs were recorded and launched.
NOW = SimpleNamespace(refuses=False, recorded=0, launched=0)
WAITS = {"item", "tolist", "__bool__", "__float__", "__int__", "__index__", "nonzero", "equal", "cpu", "bincount"}
# Between devices, or of no values at all.
ANYWHERE = {"to", "copy_", "__deepcopy__", "_has_compatible_shallow_copy_type"}


def tensors(value) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from tensors(inner)


def mark(value):
    for tensor in tensors(value):
        MARKED[tensor] = True
    return value


def is_on_gpu(value) -> bool:
    return any(tensor in MARKED for tensor in tensors(value))


def device_of(value) -> torch.device | None:
    """The device that an argument names."""
    if isinstance(value, Tensor):
        return GPU if value in MARKED else torch.device("cpu")
    return torch.device(value) if isinstance(value, str | torch.device) else None


def wait(name: str) -> None:
    if NOW.refuses:
        raise RuntimeError(f"operation not permitted when stream is capturing: {name}")


class Pretended(TorchFunctionMode):
    """Every operation, before torch carries it out on the CPU."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name, kwargs = getattr(function, "__name__", ""), dict(kwargs or {})
        is_here = is_on_gpu((args, kwargs))
        if name == "__get__" and is_here and function in GETTERS:
            return GETTERS[function]
        if function == Tensor.data.__set__:
            function(*args)
            mark(args[0]) if args[1] in MARKED else MARKED.pop(args[0], None)
            return None
        self.refuse(name, args, kwargs, is_here)
        target = self.redirected(name, args, kwargs)
        if target is not None:
            args, kwargs = target.args, target.kwargs
        result = function(*args, **kwargs)
        if name == "backward":
            self.mark_gradients()
        if name == "cpu":
            return result.clone()
        if name == "__deepcopy__":
            return mark(result) if args[0] in MARKED else result
        is_there = is_here if target is None else target.device.type == "cuda"
        return mark(result) if is_there else result

    def refuse(self, name, args, kwargs, is_here) -> None:
        others = [one for one in tensors((args, kwargs)) if one not in MARKED and one.dim()]
        # Indices may come from the host, which then waits.
        is_index = name in ("__getitem__", "__setitem__")
        if is_here and others and not is_index and name not in ANYWHERE and not name.startswith("__"):
            raise RuntimeError(f"Expected all tensors to be on the same device, but found cuda:0 and cpu, in {name}")
        if is_here and name in ("numpy", "__array__"):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if is_here and (name in WAITS or (is_index and others)):
            wait(name)
        if name == "copy_" and is_on_gpu(args[0]) != is_on_gpu(args[1]) and not kwargs.get("non_blocking"):
            wait(name)

    def redirected(self, name, args, kwargs):
        """The arguments without their device, and that device; nothing where none is named."""
        named = kwargs.get("device")
        places = [i for i, value in enumerate(args) if i and device_of(value)] if name == "to" else []
        if named is None and not places:
            return None
        device = device_of(args[places[0]] if places else named)
        if name == "to" and device_of(args[0]).type != device.type:
            # Another tensor, though the real device is the same.
            kwargs = {**kwargs, "copy": True}
            if not kwargs.get("non_blocking"):
                wait(name)
        if name in ("tensor", "as_tensor") and device.type == "cuda":
            wait(name)
        real = torch.device("cpu") if device.type == "cuda" else device
        if named is not None:
            kwargs = {**kwargs, "device": real}
        return SimpleNamespace(
            args=tuple(real if i in places else value for i, value in enumerate(args)), kwargs=kwargs, device=device
        )

    def mark_gradients(self) -> None:
        with torch._C.DisableTorchFunction():
            for tensor in list(MARKED.keys()):
                if tensor.is_leaf and tensor.grad is not None:
                    mark(tensor.grad)


GETTERS = {Tensor.device.__get__: GPU, Tensor.is_cuda.__get__: True, Tensor.is_cpu.__get__: False}


class Stream:
    def __init__(self, *_):
        pass

    def wait_stream(self, other):
        pass


class State:
    """Random numbers of the GPU are the CPU's."""

    def __init__(self, state=None):
        self.state = torch.Generator.real().manual_seed(0).get_state() if state is None else state

    def clone_state(self):
        return State(torch.get_rng_state())

    graphsafe_get_state = clone_state

    def graphsafe_set_state(self, other):
        torch.set_rng_state(other.state)


class Graph:
    def replay(self):
        NOW.launched += 1
        with torch.no_grad(), torch._C.DisableTorchFunction():
            self.launch()


@contextmanager
def record(graph, **_):
    tracer = Tracer([])
    NOW.refuses = True
    try:
        with tracer:
            yield
    finally:
        NOW.refuses = False
    NOW.recorded += 1
    graph.launch = program(tracer.trace)


@contextmanager
def on_stream(_):
    yield


class Recording(recording.Recording):
    """Recorded steps are carried out here, and undone in place, for their addresses are known already."""

    def _record(self, stream):
        with recording.undone(self._step):
            super()._record(stream)


CUDA = {
    "is_available": lambda: True,
    "device_count": lambda: 1,
    "current_device": lambda: 0,
    "get_device_name": lambda device=None: "a pretended GPU",
    "mem_get_info": lambda device=None: (2**36, 2**37),
    "init": lambda: None,
    "empty_cache": lambda: None,
    "get_rng_state": lambda device=None: torch.get_rng_state(),
    "set_rng_state": lambda state, device=None: torch.set_rng_state(state),
    "default_generators": [State.__new__(State)],
    "Stream": Stream,
    "stream": on_stream,
    "current_stream": Stream,
    "set_stream": lambda stream: None,
    "CUDAGraph": Graph,
    "graph": record,
    "get_sync_debug_mode": lambda: NOW.refuses,
    "set_sync_debug_mode": lambda mode: setattr(NOW, "refuses", bool(mode)),
}


def pretend() -> None:
    """Have torch take the CPU for a GPU, in this thread and until the process ends."""
    for name, value in CUDA.items():
        setattr(torch.cuda, name, value)
    torch._C._cuda_clearCublasWorkspaces = lambda: None
    Tensor.pin_memory = Tensor.clone
    real = torch.Generator

    def generator(device="cpu"):
        return State() if torch.device(device).type == "cuda" else real(device)

    generator.real = real
    torch.Generator = generator
    made = nn.Parameter.__new__

    def parameter(cls, data=None, requires_grad=True):
        new = made(cls, data, requires_grad)
        return mark(new) if is_on_gpu(data) else new

    nn.Parameter.__new__ = parameter
    for module in (optimizers, _foreach_utils, clip_grad):
        grouped = module._group_tensors_by_device_and_dtype

        def by_device(lists, *rest, grouped=grouped, **others):
            groups = grouped(lists, *rest, **others).items()
            return {(GPU if is_on_gpu(lists) else device, kind): group for (device, kind), group in groups}

        module._group_tensors_by_device_and_dtype = by_device
    Pretended().__enter__()


if __name__ == "__main__":
    from cnntrain.cli.main import main
    from cnntrain.training import engine

    engine.Recording = Recording
    pretend()
    try:
        main()
    finally:
        sys.stderr.write(f"{NOW.recorded} graphs, {NOW.launched} launches\n")
