"""Decoders whose cache grows where it lies: the same results as with new arrays for each call, and nothing copied."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import path_of

import optimium.runtime as rt

KEY_HEADS, SIZE, VOCABULARY = 2, 8, 40
PAST = [f"past_{kind}_{layer}" for layer in range(2) for kind in ("key", "value")]
PRESENT = [name.replace("past", "present") for name in PAST]

Cache = list[np.ndarray]
#: What holds the past rows, and what is to hold all rows, of caches that had `n` rows and get `m`.
Step = Callable[[int, int], tuple[Cache, Cache]]


def cache(rows: int) -> Cache:
    return [np.full((1, KEY_HEADS, rows, SIZE), np.nan, np.float32) for _ in PAST]


def rows(arrays: Cache, n: int) -> Cache:
    return [array[:, :, :n] for array in arrays]


def tokens(count: int) -> np.ndarray:
    return (np.arange(count, dtype=np.int64) * 7 % VOCABULARY)[None]


def decode(model: rt.Model, lengths: list[int], step: Step) -> tuple[list[np.ndarray], Cache]:
    """The logits of all calls, which take so many tokens each, and the last cache."""
    request, logits, n, present = model.create_request(), [], 0, cache(0)
    ids = tokens(sum(lengths))
    for length in lengths:
        past, present = step(n, n + length)
        logits.append(np.full((1, length, VOCABULARY), np.nan, np.float32))
        inputs = {"ids": ids[:, n : n + length], **dict(zip(PAST, past, strict=True))}
        request.infer(inputs, {"logits": logits[-1], **dict(zip(PRESENT, present, strict=True))})
        assert not request.wait()
        n += length
    return logits, present


def in_new_arrays() -> Step:
    last = cache(0)

    def step(_: int, m: int) -> tuple[Cache, Cache]:
        nonlocal last
        past, last = last, cache(m)
        return past, last

    return step


def in_one_array(room: int) -> Step:
    whole = cache(room)
    return lambda n, m: (rows(whole, n), rows(whole, m))


def in_two_arrays(room: int) -> Step:
    """From one with room for more to the other, of another size."""
    both = [cache(room), cache(room + 3)]

    def step(n: int, m: int) -> tuple[Cache, Cache]:
        both.reverse()
        return rows(both[1], n), rows(both[0], m)

    return step


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("memory_optimization", [True, False])
@pytest.mark.parametrize("lengths", [[1] * 40, [5, 1, 1, 9, 1, 3], [12, 20]])
def test_results_are_the_same(threads: int, memory_optimization: bool, lengths: list[int]) -> None:
    model = rt.load_model(path_of("decoder"), threads=threads, memory_optimization=memory_optimization)
    total = sum(lengths)
    expected, expected_cache = decode(model, lengths, in_new_arrays())
    assert all(np.isfinite(array).all() for array in expected + expected_cache)
    for step in (in_one_array(total), in_one_array(total + 5), in_two_arrays(total + 1)):
        logits, present = decode(model, lengths, step)
        for given, wanted in zip(logits + present, expected + expected_cache, strict=True):
            assert given.tobytes() == wanted.tobytes()


def test_stages_take_and_give_arrays_of_their_own() -> None:
    pipeline = rt.SchedulerType.PIPELINE
    model = rt.load_model(path_of("decoder"), threads=2, scheduler_type=pipeline)
    lengths = [3, 1, 1]
    expected, _ = decode(rt.load_model(path_of("decoder"), threads=1), lengths, in_new_arrays())
    logits, _ = decode(model, lengths, in_new_arrays())
    assert all(np.array_equal(a, b) for a, b in zip(logits, expected, strict=True))
    flat = [np.zeros(9 * KEY_HEADS * SIZE, np.float32) for _ in PAST]

    def overlapping(n: int, m: int) -> tuple[Cache, Cache]:
        past, present = ([array[: KEY_HEADS * k * SIZE].reshape(1, KEY_HEADS, k, SIZE) for array in flat] for k in (n, m))
        return past, present

    for step in (in_one_array(9), overlapping):
        with pytest.raises(rt.InvalidArgumentError, match="of a model in one stage"):
            decode(model, lengths, step)
    one_stage = rt.load_model(path_of("decoder"), threads=2, stages=1, scheduler_type=pipeline)
    logits, _ = decode(one_stage, lengths, in_one_array(5))
    assert all(np.array_equal(a, b) for a, b in zip(logits, expected, strict=True))


def test_only_new_rows_are_written() -> None:
    model = rt.load_model(path_of("decoder"), threads=1)
    whole = cache(20)
    decode(model, [3, 1, 1], lambda n, m: (rows(whole, n), rows(whole, m)))
    before = [array.copy() for array in whole]
    assert all(np.isnan(array[:, :, 5:]).all() and np.isfinite(array[:, :, :5]).all() for array in whole)
    request, logits = model.create_request(), np.empty((1, 1, VOCABULARY), np.float32)
    # What was there is what the caller put there, whatever that is.
    whole[1][0, 1, 2] = 7
    inputs = {"ids": tokens(1), **dict(zip(PAST, rows(whole, 5), strict=True))}
    request.infer(inputs, {"logits": logits, **dict(zip(PRESENT, rows(whole, 6), strict=True))})
    request.wait()
    assert (whole[1][0, 1, 2] == 7).all()
    assert all(np.array_equal(a[:, :, 3:5], b[:, :, 3:5]) for a, b in zip(whole, before, strict=True))
    assert all(np.isnan(array[:, :, 6:]).all() and np.isfinite(array[:, :, :6]).all() for array in whole)


def test_a_cache_with_room_can_be_read_afterwards() -> None:
    model = rt.load_model(path_of("decoder"), threads=1, memory_optimization=False)
    whole, request = cache(9), model.create_request()
    inputs = {"ids": tokens(4), **dict(zip(PAST, rows(whole, 0), strict=True))}
    logits = np.empty((1, 4, VOCABULARY), np.float32)
    request.infer(inputs, {"logits": logits, **dict(zip(PRESENT, rows(whole, 4), strict=True))})
    request.wait()
    for name, array in zip(PRESENT, whole, strict=True):
        assert np.array_equal(request.get_tensor(name).to_numpy(), array[:, :, :4])


def refused(changed: dict[str, np.ndarray], match: str) -> None:
    """A call on four rows and one more, in the place of which some arrays are others."""
    model = rt.load_model(path_of("decoder"), threads=1)
    whole = cache(8)
    arrays = {"ids": tokens(1), "logits": np.empty((1, 1, VOCABULARY), np.float32)}
    arrays |= dict(zip(PAST, rows(whole, 4), strict=True)) | dict(zip(PRESENT, rows(whole, 5), strict=True))
    arrays |= changed
    with pytest.raises(rt.InvalidArgumentError, match=match):
        model.create_request().infer(
            {name: arrays[name] for name in model.input_names}, {name: arrays[name] for name in model.output_names}
        )


def test_other_overlaps_are_refused() -> None:
    array = cache(40)[0]
    past, both = {"past_key_0": array[:, :, 4:8]}, {"past_key_0": array[:, :, :4]}
    refused(past | {"present_key_0": array[:, :, 5:10]}, "does not begin with it")
    refused(past | {"present_key_0": array[:, :, 3:8]}, "does not begin with it")
    refused(both | {"present_value_0": array[:, :, :5]}, "present_value_0.*shares memory with the input.*past_key_0")
    refused({"present_key_0": array[:, :, :5], "present_key_1": array[:, :, :5]}, "with the output")
    wide = np.zeros(40 * KEY_HEADS * SIZE, np.float32)
    narrow = wide[: KEY_HEADS * 4 * SIZE].reshape(1, KEY_HEADS, 4, SIZE)
    longer = wide[: KEY_HEADS * 5 * SIZE].reshape(1, KEY_HEADS, 5, SIZE)
    refused({"past_key_0": narrow, "present_key_0": longer}, "does not begin with it")


def test_other_views_are_refused() -> None:
    columns = np.zeros((1, KEY_HEADS, 5, 2 * SIZE), np.float32)[..., :SIZE]
    every_second = np.zeros((1, KEY_HEADS, 10, SIZE), np.float32)[:, :, ::2]
    logits = np.zeros((1, 1, 2 * VOCABULARY), np.float32)[..., ::2]
    refused({"present_key_0": columns}, "C-contiguous")
    refused({"present_key_0": every_second}, "C-contiguous")
    refused({"logits": logits}, "C-contiguous")


def test_other_views_are_copied_where_they_are_read() -> None:
    model = rt.load_model(path_of("decoder"), threads=1)
    random = np.random.default_rng(1)
    wide = [random.standard_normal((1, KEY_HEADS, 12, 2 * SIZE)).astype(np.float32) for _ in PAST]
    results = []
    for past in ([array[:, :, ::3, ::2] for array in wide], [array[:, :, ::3, ::2].copy() for array in wide]):
        logits, present = np.empty((1, 1, VOCABULARY), np.float32), cache(5)
        request = model.create_request()
        request.infer(
            {"ids": tokens(1), **dict(zip(PAST, past, strict=True))},
            {"logits": logits, **dict(zip(PRESENT, present, strict=True))},
        )
        request.wait()
        results.append([logits, *present])
    assert all(np.array_equal(a, b) for a, b in zip(*results, strict=True))


def test_the_example_makes_the_same_tokens() -> None:
    example = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "decode" / "decode.py"))
    made = example["main"](path_of("decoder"), [3, 1, 2], 10, threads=2)
    model = rt.load_model(path_of("decoder"), threads=1)
    step, n, wanted = in_new_arrays(), 0, [3, 1, 2]
    request, logits = model.create_request(), np.empty((1, 1, VOCABULARY), np.float32)
    while len(wanted) < 13:
        past, present = step(n, n + 1)
        inputs = {"ids": np.array([[wanted[n]]]), **dict(zip(PAST, past, strict=True))}
        request.infer(inputs, {"logits": logits, **dict(zip(PRESENT, present, strict=True))})
        request.wait()
        n += 1
        if n == len(wanted):
            wanted.append(int(logits.argmax()))
    assert made == wanted
