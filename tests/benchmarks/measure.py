"""The time and the peak memory of a call, forward and backward."""

import gc
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Call = Callable[[], Tensor]

# What tells the time: the wall's clock, or the process's CPU time, which other processes change less.
clock: Callable[[], float] = time.perf_counter


@dataclass(frozen=True)
class Run:
    """One call.

    Attributes:
        seconds: forward and backward.
        fresh: the size of the pages the process touched for the first time, over that of the logits; CPU only.
    """

    seconds: float
    fresh: float


def timed(call: Call, logits: Tensor) -> Run:
    """Runs `call`, and backward if its result wants it; the gradient that was there is freed before."""
    logits.grad = None
    gc.disable()
    if logits.is_cuda:
        torch.cuda.synchronize()
    faults = _page_faults()
    start = clock()
    result = call()
    if result.requires_grad:
        result.backward()
    if logits.is_cuda:
        torch.cuda.synchronize()
    seconds = clock() - start
    touched = (_page_faults() - faults) * resource.getpagesize()
    gc.enable()
    return Run(seconds, touched / _size(logits))


def timed_with_memory(call: Call, logits: Tensor) -> tuple[Run, float]:
    """As `timed`, and the most memory that torch held during the call beyond what it held before, over the logits'.

    It counts the gradient and everything from torch's allocators, temporaries within an operation too; on the CPU not
    what other libraries take, nor the few vectors that kernels keep outside of the allocator. There it is measured in
    one thread, the only one that the profiler sees; ours hold the temporaries of a block more for each further thread.
    """
    logits.grad = None
    if logits.is_cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run = timed(call, logits)
        return run, (torch.cuda.max_memory_allocated() - before) / _size(logits)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run = timed(call, logits)
    torch.set_num_threads(threads)
    if threads > 1:
        run = timed(call, logits)
    # The profiler's own tables leave out what is freed before the operation ends.
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return run, peak / _size(logits)


def recorded(call: Call, logits: Tensor) -> Call:
    """Replays what `call` and its backward launch on the GPU, without the time that Python takes to launch it.

    Raises:
        RuntimeError: it makes the host wait, so that it cannot be recorded.
    """

    def step() -> Tensor:
        result = call()
        if result.requires_grad:
            torch.autograd.grad(result, logits)
        return result.detach()

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = step()

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay


def timed_on_device(replay: Call) -> Run:
    """The time that the GPU takes for what was recorded."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    replay()
    end.record()
    torch.cuda.synchronize()
    return Run(start.elapsed_time(end) / 1e3, 0.0)


def value_and_gradient(call: Call, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Of a loss, in float64."""
    logits.grad = None
    loss = call()
    loss.backward()
    gradient = logits.grad
    assert gradient is not None
    logits.grad = None
    return loss.detach().double(), gradient


def same(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> bool:
    """Whether two losses agree, as far as the logits' dtype, float32 sorts and histograms allow."""
    precise = ours[1].dtype != torch.bfloat16
    difference = (ours[0] - theirs[0]).abs() / ours[0].abs().clamp(min=1e-6)
    distance = torch.linalg.vector_norm(ours[1] - theirs[1]) / torch.linalg.vector_norm(ours[1]).clamp(min=1e-30)
    return bool(difference < (1e-3 if precise else 2e-2)) and bool(distance < (1e-2 if precise else 1e-1))


def _size(logits: Tensor) -> int:
    return logits.numel() * logits.element_size()


def _page_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
