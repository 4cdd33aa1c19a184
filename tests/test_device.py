"""Devices: found, refused in one sentence, set up, described; and what too little memory looks like."""

import os
import platform
from collections.abc import Iterator

import pytest
import torch

import lrsearch
from lrsearch import cores
from lrsearch.errors import EXIT_DEVICE, DeviceError
from lrsearch.training import data, device
from lrsearch.training.data import DataConfig
from lrsearch.training.models import ModelConfig
from lrsearch.training.serial import Rules, SerialEngine

CPU = torch.device("cpu")
HAS_CUDA = torch.cuda.is_available()
HAS_MPS = torch.backends.mps.is_available()

needs_cuda = pytest.mark.skipif(not HAS_CUDA, reason="no CUDA here")


@pytest.fixture(autouse=True)
def _threads_as_they_were() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


# --- which device ----------------------------------------------------------------------------------------------------


def test_the_cpu_is_always_there() -> None:
    assert device.resolve("cpu") == CPU


@pytest.mark.skipif(HAS_CUDA or HAS_MPS, reason="an accelerator is here")
def test_without_an_accelerator_the_cpu_is_chosen() -> None:
    assert device.resolve() == device.resolve("auto") == CPU


@pytest.mark.parametrize(
    ("name", "why"),
    [
        pytest.param("cuda", "", marks=pytest.mark.skipif(HAS_CUDA, reason="CUDA is here")),
        pytest.param("cuda:0", "", marks=pytest.mark.skipif(HAS_CUDA, reason="CUDA is here")),
        pytest.param("mps", "", marks=pytest.mark.skipif(HAS_MPS, reason="MPS is here")),
        ("cuda:4000", ""),
        ("gpu7", "Invalid device string"),
        ("cpu:x", "Invalid device string"),
        ("cuda:-1", "Invalid device string"),
        ("CPU", "Expected one of cpu, cuda"),
        ("", "must not be empty"),
        ("a\nb", "Invalid device string"),
        ("meta", "meta tensors"),  # takes any tensor, and holds none
        ("meta:0", "meta tensors"),
        ("hpu", "No module named"),
        ("privateuseone", "No module named"),
        ("vulkan", ""),
        ("opencl", ""),
        ("xla", ""),
    ],
)
def test_a_device_that_cannot_train_is_refused_in_one_sentence(name: str, why: str) -> None:
    with pytest.raises(DeviceError) as error:
        device.resolve(name)
    text = str(error.value)
    begun = f"the device {name!r} must be one that PyTorch can use on this machine, such as 'cpu' or 'auto': "
    assert text.startswith(begun)
    assert why in text
    assert len(begun) + 5 < len(text) < 400
    assert "\n" not in text
    assert ". " not in text  # one sentence
    assert not text.endswith((".", "(", ","))
    assert error.value.exit_code == EXIT_DEVICE
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__


@pytest.mark.gpu
@needs_cuda
def test_cuda_is_chosen_where_it_is() -> None:
    assert device.resolve() == torch.device("cuda", 0)
    assert device.resolve("cuda").type == "cuda"


# --- threads ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("threads", "text"), [(1, "cpu (1 thread)"), (2, "cpu (2 threads)"), (3, "cpu (3 threads)")])
def test_the_process_gets_the_threads_it_is_given_and_the_engine_says_so(threads: int, text: str) -> None:
    device.prepare(CPU, threads)
    assert torch.get_num_threads() == threads
    assert device.describe(CPU) == text
    engine = SerialEngine(data.load(DataConfig("digits")), ModelConfig("mlp"), CPU, Rules())
    assert engine.device == text


def test_a_dense_model_trains_on_one_thread_and_a_convolutional_one_on_all_cores() -> None:
    assert device.threads_for("mlp") == 1
    assert device.threads_for("cnn") == cores.available() >= 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity masks on this system")
def test_only_the_cores_that_this_process_may_use_are_counted() -> None:
    before = os.sched_getaffinity(0)
    assert cores.available() == len(before)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert cores.available() == device.threads_for("cnn") == 1
    finally:
        os.sched_setaffinity(0, before)


# --- in words --------------------------------------------------------------------------------------------------------


def test_a_device_without_a_name_of_its_own_is_called_as_torch_calls_it() -> None:
    assert device.describe(torch.device("mps")) == "mps"


@pytest.mark.gpu
@needs_cuda
def test_a_gpu_is_described_with_its_name_and_prepared_for_repetition() -> None:
    gpu = torch.device("cuda", 0)
    assert device.describe(gpu) == f"cuda:0 ({torch.cuda.get_device_name(0)})"
    device.prepare(gpu, 1)
    assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.benchmark
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"]


def test_the_versions_are_those_that_repetition_depends_on() -> None:
    expected = f"lrsearch {lrsearch.__version__}, torch {torch.__version__}, python {platform.python_version()}"
    assert device.versions() == expected
    engine = SerialEngine(data.load(DataConfig("digits")), ModelConfig("mlp"), CPU, Rules())
    assert engine.versions == expected


# --- memory ----------------------------------------------------------------------------------------------------------


def test_an_allocation_that_no_machine_can_make_is_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**60, dtype=torch.uint8)
    assert device.is_out_of_memory(error.value)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 16 bytes."), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 18.13 GB)"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied (64x784 and 100x10)"), False),
        (RuntimeError(), False),
        (ValueError("out of memory"), False),
        (KeyboardInterrupt(), False),
    ],
    ids=repr,
)
def test_too_little_memory_is_told_from_other_troubles(error: BaseException, expected: bool) -> None:
    assert device.is_out_of_memory(error) is expected


@pytest.mark.gpu
@needs_cuda
def test_an_allocation_that_no_gpu_can_make_is_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**50, dtype=torch.uint8, device="cuda")
    assert device.is_out_of_memory(error.value)
