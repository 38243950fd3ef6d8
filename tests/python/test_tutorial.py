"""The tutorial's Python snippets, section by section, as they stand there."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import processes
import pytest
from conftest import path_of

import optimium.runtime as rt


class TestImport:
    """Section 2."""

    def test_logging(self, tmp_path: Path) -> None:
        code = f"""
import optimium.runtime as rt
rt.logging.set_loglevel(rt.LogLevel.DEBUG)
rt.logging.enable_console_log()
rt.logging.enable_file_log({str(tmp_path / "output.log")!r})
rt.load_model({str(path_of("affine"))!r})
"""
        done = processes.run(code)
        assert done.returncode == 0, done.stderr
        assert "loaded" in done.stderr
        assert "loaded" in (tmp_path / "output.log").read_text()

    def test_logging_by_environment(self, tmp_path: Path) -> None:
        code = "import optimium.runtime"
        assert processes.run(code).stderr == ""
        assert "initialized" in processes.run(code, OPTIMIUM_RT_ENABLE_LOG="1", OPTIMIUM_RT_DEBUG="1").stderr
        log = tmp_path / "run.log"
        assert processes.run(code, OPTIMIUM_RT_DEBUG="1", OPTIMIUM_RT_LOGFILE=str(log)).stderr == ""
        assert "initialized" in log.read_text()

    def test_deferred_initialization(self) -> None:
        code = """
import os
os.environ["OPTIMIUM_RT_DEFER_INIT"] = "TRUE"

import optimium.runtime as rt
try:
    rt.get_local_info()
except rt.InvalidStateError:
    print("not yet")
rt.initialize()  # must be called before use any runtime components.
print(len(rt.get_local_info().devices))
"""
        done = processes.run(code)
        assert done.stdout.split() == ["not", "yet", "1"], done.stderr

    def test_version(self) -> None:
        version = rt.get_version()
        assert f"{version.major}.{version.minor}.{version.patch}" == rt.__version__
        assert version.build_info.startswith(rt.__version__)

    def test_devices(self) -> None:
        local = rt.get_local_info()

        found = False
        for dev in local.devices:
            if dev.platform == rt.PlatformKind.NATIVE:
                found = True

        assert found
        assert local.id == 0 and local.name and local.architecture.is_cpu()
        assert local.os in rt.OSKind
        device = local.devices[0]
        assert (device.index, device.host_id, device.device_kind) == (0, 0, local.architecture)
        assert device.host_info == local
        assert str(device) == device.name == f"native:{device.device_kind.value}:0@0"
        assert rt.DeviceID.from_string(device.name) == device

    @pytest.mark.skipif(not rt.get_local_info().architecture.name.startswith("X"), reason="needs an x86")
    def test_x86_capability(self) -> None:
        capability = rt.get_local_info().devices[0].capability
        assert isinstance(capability, rt.X86Capability)
        assert capability.has_flag(rt.X86FeatureKind.SSE2)
        assert capability.has_flags([rt.X86FeatureKind.SSE, rt.X86FeatureKind.SSE2])
        assert not capability.has_flag(rt.X86FeatureKind.AVX512_ER)
        assert rt.X86FeatureKind.SSE2 in list(capability)
        assert min(capability.L1, capability.L2, capability.L3) >= 0

    def test_capabilities_of_other_devices(self) -> None:
        elsewhere = rt.DeviceID(rt.PlatformKind.CUDA, rt.DeviceKind.NVIDIA)
        with pytest.raises(rt.DeviceNotFoundError):
            _ = elsewhere.capability


class TestLoad:
    """Section 3."""

    def test_options(self) -> None:
        model = rt.load_model(
            path_of("affine"),
            devices=list(rt.get_local_info().devices),
            strict=False,
            memory_optimization=True,
            disable_denormals=True,
            intermediate_save_path=None,
            passphrase=None,
            threads=1,
            cores=[next(iter(os.sched_getaffinity(0)))],
            scheduler_type=rt.SchedulerType.SIMPLE,
        )
        assert model.name == "affine"

    def test_precision(self) -> None:
        exact = rt.load_model(path_of("affine"), precision="f32")
        rounded = rt.load_model(path_of("affine"), precision="bf16")
        assert exact.input_names == rounded.input_names

    def test_from_a_folder(self, tmp_path: Path) -> None:
        progress: list[tuple[str, float]] = []
        rt.convert(path_of("affine"), tmp_path / "model", progress=lambda *step: progress.append(step))
        assert progress[0][1] == 0 and progress[-1][1] == 1
        model = rt.load_model(str(tmp_path / "model"))
        assert model.input_names == ["input_0", "input_1"]

    @pytest.mark.parametrize("scheduler", list(rt.SchedulerType))
    def test_schedulers(self, scheduler: rt.SchedulerType) -> None:
        model = rt.load_model(path_of("affine"), scheduler_type=scheduler)
        inputs, output = [np.ones((32, 32), np.float32)] * 2, np.zeros((32, 32), np.float32)
        request = model.create_request()
        request.infer(inputs, [output])
        assert not request.wait()
        assert (output == 3).all()

    def test_devices_that_are_not_there(self) -> None:
        gpu = rt.DeviceID(rt.PlatformKind.CUDA, rt.DeviceKind.NVIDIA)
        with pytest.raises(rt.DeviceNotFoundError):
            rt.load_model(path_of("affine"), devices=[gpu], strict=True)
        model = rt.load_model(path_of("affine"), devices=[gpu])
        assert model.operations[0].device.platform == rt.PlatformKind.NATIVE

    @pytest.mark.parametrize(
        "options",
        [{"threads": 0}, {"threads": -1}, {"threads": 5000}, {"cores": [10**6]}, {"cores": []}, {"cores": [-1]}],
    )
    def test_impossible_options(self, options: dict) -> None:
        with pytest.raises(rt.InvalidArgumentError):
            rt.load_model(path_of("affine"), **options)


class TestInformation:
    """Section 4."""

    def test_listing(self, affine: rt.Model, capsys: pytest.CaptureFixture[str]) -> None:
        print(f"model name: {affine.name}")

        print("input tensors")
        for name in affine.input_names:
            print(affine.get_tensor(name))

        print("output tensors")
        for name in affine.output_names:
            print(affine.get_tensor(name))

        for op in affine.operations:
            print(f"op: {op.name} on device: {op.device}")

        printed = capsys.readouterr().out
        assert "model name: affine" in printed
        assert "input_1: F32 [32, 32]" in printed
        assert "on device: native:" in printed
        assert affine.get_input_tensor(0) == affine.get_tensor("input_0")
        assert affine.get_output_tensor(0) == affine.get_tensor("output_0")
        assert {"input_0", "input_1", "output_0"} <= {info.name for info in affine.tensors}
        assert not affine.is_dynamic

    def test_tensor_info(self, affine: rt.Model) -> None:
        info = affine.get_tensor("input_0")
        assert info.name == "input_0"
        assert info.shape == (32, 32)
        assert info.alignment == 64
        assert info.type is rt.ElementType.F32
        assert info.padding == 0
        assert info.size == 32 * 32 * 4
        assert not info.opt_out and not info.constant
        assert info.scheme is None

    def test_quantization_scheme(self) -> None:
        model = rt.load_model(path_of("quantized"))
        schemes = [info.scheme for info in model.tensors if info.scheme]
        for scheme in schemes:
            if scheme.per_channel:
                assert scheme.axis is not None
                for i in range(len(scheme)):
                    param = scheme[i]
                    assert param.scale > 0 and isinstance(param.zero_point, int)
            else:
                param = scheme.get_param()
                assert param.scale > 0
        assert any(scheme.per_channel for scheme in schemes), "the weights are quantized per channel"
        assert any(not scheme.per_channel for scheme in schemes)

    def test_unknown_tensors(self, affine: rt.Model) -> None:
        for get in (
            lambda: affine.get_tensor("nothing"),
            lambda: affine.get_input_tensor(2),
            lambda: affine.get_output_tensor(-1),
        ):
            with pytest.raises(rt.InvalidArgumentError):
                get()

    def test_infer_shape(self) -> None:
        model = rt.load_model(path_of("classifier"))
        assert model.is_dynamic
        output_shape = model.infer_shape("output_0", {"input_0": rt.TensorShape(1, 3, 224, 224)})
        assert output_shape == (1, 10)
        output_shape = model.infer_shape("output_0", [rt.TensorShape(5, 3, 224, 224)])
        assert output_shape == rt.TensorShape(5, 10)
        with pytest.raises(rt.ShapeError):
            model.infer_shape("output_0", [rt.TensorShape(5, 4, 224, 224)])
        with pytest.raises(rt.InvalidArgumentError):
            model.infer_shape("output_0", {"input": rt.TensorShape(5, 3, 224, 224)})


class TestTensors:
    """Section 6."""

    def test_creation(self) -> None:
        f32_tensor = rt.tensor(shape=(32, 32), dtype=rt.ElementType.F32)
        assert f32_tensor.shape == (32, 32) and f32_tensor.type is rt.float32

        i16_tensor = rt.tensor(123, shape=(8,), dtype=rt.int16)
        assert i16_tensor.to_numpy().tolist() == [123] * 8

        tensor_from_list = rt.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
        assert tensor_from_list.type is rt.float32
        assert tensor_from_list.to_numpy().tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]

        arr = np.random.random((32, 32)).astype(np.float16)
        tensor_from_np = rt.tensor(arr)
        tensor_zero_copy = rt.tensor(arr, copy=False)
        arr[0, 0] = 5
        assert tensor_zero_copy.to_numpy()[0, 0] == 5
        assert tensor_from_np.to_numpy()[0, 0] != 5
        assert np.shares_memory(tensor_zero_copy.to_numpy(), arr)

        assert rt.tensor(0.0, shape=(3, 4), dtype=rt.float32).to_numpy().sum() == 0

    def test_aliases(self) -> None:
        for alias, name in {
            "int8": "I8", "uint8": "U8", "int16": "I16", "uint16": "U16", "int32": "I32", "uint32": "U32",
            "int64": "I64", "uint64": "U64", "float16": "F16", "float32": "F32", "float64": "F64",
            "bfloat16": "BF16", "tfloat32": "TF32", "bool_": "BOOL", "str_": "STRING", "qint8": "QS8",
            "quint8": "QU8", "qint16": "QS16", "quint16": "QU16", "qint32": "QS32",
        }.items():  # fmt: skip
            assert getattr(rt, alias) is getattr(rt.ElementType, name)

    def test_element_types(self) -> None:
        np_dtype = rt.ElementType.F32.to_dtype()
        assert np_dtype == np.float32
        elem_type = rt.ElementType.from_dtype(np.float32)
        assert elem_type is rt.ElementType.F32
        for element_type in rt.ElementType:
            dtype = element_type.to_dtype()
            if element_type is not rt.ElementType.STRING:
                assert element_type.element_size == dtype.itemsize

    def test_properties_and_fill(self) -> None:
        tensor = rt.tensor(shape=(3, 4), dtype=rt.float32)
        with pytest.raises(TypeError):
            tensor[0]  # type: ignore[index]
        tensor.fill(2.5)
        arr = tensor.to_numpy()
        assert arr[1, 2] == 2.5
        arr[1, 2] = 7
        assert tensor.to_numpy()[1, 2] == 7, "the memory is shared"

    def test_print_configuration(self) -> None:
        try:
            rt.config.set_print_threshold(10)
            rt.config.set_print_precision(4)
            text = repr(rt.tensor(np.arange(12, dtype=np.float32)))
            assert "..." in text and "11.0000" in text and "5.0000" not in text
            rt.config.set_print_threshold(-1)
            assert "5.0000" in repr(rt.tensor(np.arange(2000, dtype=np.float32)))
            for wrong in (-1, 16):
                with pytest.raises(rt.InvalidArgumentError):
                    rt.config.set_print_precision(wrong)
            with pytest.raises(rt.InvalidArgumentError):
                rt.config.set_print_threshold(-2)
        finally:
            rt.config.set_print_threshold(8)
            rt.config.set_print_precision(6)


class TestInference:
    """Section 7."""

    def test_lists_of_tensors(self, affine: rt.Model) -> None:
        request = affine.create_request()
        inputs = []
        outputs = []

        for name in affine.input_names:
            info = affine.get_tensor(name)
            inputs.append(rt.tensor(shape=info.shape, dtype=info.type))

        for name in affine.output_names:
            info = affine.get_tensor(name)
            outputs.append(rt.tensor(shape=info.shape, dtype=info.type))

        for tensor in inputs:
            tensor.fill(1)
        request.infer(inputs, outputs)
        request.wait()
        assert (outputs[0].to_numpy() == 3).all()

    def test_dicts_of_tensors(self, affine: rt.Model) -> None:
        request = affine.create_request()
        inputs = {}
        outputs = {}

        for name in affine.input_names:
            info = affine.get_tensor(name)
            inputs[name] = rt.tensor(shape=info.shape, dtype=info.type)

        for name in affine.output_names:
            info = affine.get_tensor(name)
            outputs[name] = rt.tensor(shape=info.shape, dtype=info.type)

        inputs["input_1"].fill(4)
        request.infer(inputs, outputs)
        request.wait()
        assert (outputs["output_0"].to_numpy() == 4).all()

    def test_numpy_arrays(self, affine: rt.Model) -> None:
        request = affine.create_request()
        inputs = [
            np.random.random((32, 32)).astype(np.float32),
            np.random.random((32, 32)).astype(np.float32),
        ]
        outputs = [np.zeros((32, 32), dtype=np.float32)]

        request.infer(inputs, outputs)
        request.wait()
        np.testing.assert_allclose(outputs[0], np.maximum(2 * inputs[0] + inputs[1], 0), rtol=1e-6)

    def test_wait(self) -> None:
        request = rt.load_model(path_of("slow"), threads=1).create_request()
        x, y = np.zeros((384, 384), np.float32), np.zeros((384, 384), np.float32)
        assert request.status == rt.InferStatus.READY
        request.infer([x], [y])
        assert request.wait(1) and request.status == rt.InferStatus.RUNNING
        assert not request.wait()
        assert request.status == rt.InferStatus.READY
        request.infer([x], [y])
        assert not request.wait(60_000_000)

    def test_callback(self, affine: rt.Model, affine_arrays: tuple) -> None:
        inputs, outputs, expected = affine_arrays
        seen = []

        def on_complete(status: rt.InferStatus, error: rt.RuntimeException | None) -> None:
            seen.append((status, error, outputs[0].copy()))

        request = affine.create_request()
        request.set_callback(on_complete)
        request.infer(inputs, outputs)
        request.wait()
        [(status, error, result)] = seen
        assert status == rt.InferStatus.READY and error is None
        np.testing.assert_allclose(result, expected, rtol=1e-6)

    def test_callback_of_a_fault(self) -> None:
        request = rt.load_model(path_of("lookup"), threads=1).create_request()
        seen = []
        request.set_callback(lambda status, error: seen.append((status, error)))
        request.infer([np.array([99])], [np.zeros((1, 3), np.float32)])
        with pytest.raises(rt.InferError):
            request.wait()
        [(status, error)] = seen
        assert status == rt.InferStatus.FAULT and isinstance(error, rt.InferError)

    def test_cancellation(self) -> None:
        request = rt.load_model(path_of("slow"), threads=1).create_request()
        x, y = np.zeros((384, 384), np.float32), np.zeros((384, 384), np.float32)
        request.infer([x], [y])
        request.cancel()
        with pytest.raises(rt.InferCanceledError):
            request.wait()
        request.infer([x], [y])
        assert not request.wait()


class TestIntermediates:
    """Section 8."""

    @pytest.mark.parametrize("how", ["memory_optimization", "intermediate_save_path"])
    def test_intermediate_tensors(self, how: str, affine_arrays: tuple, tmp_path: Path) -> None:
        inputs, outputs, expected = affine_arrays
        options = {"memory_optimization": False} if how == "memory_optimization" else {how: tmp_path / "saved"}
        model = rt.load_model(path_of("affine"), threads=1, **options)
        request = model.create_request()
        with pytest.raises(rt.InvalidOperationError):
            request.get_tensor("product")
        request.infer(inputs, outputs)
        request.wait()
        intermediate = request.get_tensor("product")
        np.testing.assert_allclose(intermediate.to_numpy(), 2 * inputs[0], rtol=1e-6)
        np.testing.assert_allclose(request.get_tensor("output_0").to_numpy(), expected, rtol=1e-6)
        with pytest.raises(rt.InvalidArgumentError):
            request.get_tensor("nothing")
        if how == "intermediate_save_path":
            assert (tmp_path / "saved" / "index.json").is_file()

    def test_not_kept_by_default(self, affine: rt.Model) -> None:
        with pytest.raises(rt.InvalidOperationError):
            affine.create_request().get_tensor("product")


class TestErrors:
    """Section 10."""

    def test_snippet(self) -> None:
        caught = None
        try:
            rt.load_model("nonexistent/path")
        except rt.ContainerError as e:
            caught = f"Container error: {e}"
        except rt.ModelError as e:
            caught = f"Model error: {e}"
        assert caught and "nonexistent/path" in caught

    @pytest.mark.parametrize(
        ("name", "content", "error"),
        [
            ("damaged.onnx", b"this is no model", rt.ModelError),
            ("empty.onnx", b"", rt.ModelError),
            ("damaged.tflite", b"\x08\x00\x00\x00TFL3", rt.ModelError),
            ("model.txt", b"text", rt.ContainerError),
        ],
    )
    def test_files_that_are_no_models(self, name: str, content: bytes, error: type, tmp_path: Path) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(error):
            rt.load_model(tmp_path / name)
        (tmp_path / "folder").mkdir()
        with pytest.raises(rt.ContainerError):
            rt.load_model(tmp_path / "folder")

    def test_unknown_instruction_set(self) -> None:
        code = f"""
import optimium.runtime as rt
try: rt.load_model({str(path_of("affine"))!r})
except rt.InvalidArgumentError as e: print(e)
"""
        assert "sse9" in processes.run(code, OPTIMIUM_RT_INSTRUCTION_SET="sse9").stdout

    def test_bases(self) -> None:
        bases = {
            "InvalidArgumentError": ValueError, "InvalidStateError": RuntimeError,
            "InvalidOperationError": RuntimeError, "TypeError": TypeError, "ShapeError": RuntimeError,
            "ExtensionError": RuntimeError, "DeviceError": RuntimeError, "ModelError": RuntimeError,
            "RequestError": RuntimeError, "InferError": RuntimeError, "OutOfResourceError": RuntimeError,
            "ContainerError": RuntimeError, "RemoteError": RuntimeError, "IOError": IOError,
            "NetworkError": IOError, "OSError": OSError, "NotImplementedError": NotImplementedError,
            "DeviceNotFoundError": rt.DeviceError, "InferCanceledError": rt.InferError,
        }  # fmt: skip
        assert issubclass(rt.RuntimeException, RuntimeError)
        for name, base in bases.items():
            error = getattr(rt, name)
            assert issubclass(error, rt.RuntimeException) and issubclass(error, base), name
            assert str(error("text")) == "text"
