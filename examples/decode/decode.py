"""Makes one token after the other with a decoder whose cache grows where it lies: nothing of it is ever copied.

    python examples/decode/decode.py [model.onnx]

needs numpy beside the runtime. The model takes token ids, and keys and values of earlier tokens, `past_*`, of shape
`[1, heads, tokens, size]`; it gives logits, and all keys and values, `present_*`. Without an argument that is a tiny one
with random weights, which has nothing to say.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import optimium.runtime as rt

TINY = Path(__file__).parents[2] / "tests" / "python" / "models" / "decoder.onnx"


def main(path: Path, prompt: list[int], length: int, threads: int) -> list[int]:
    model = rt.load_model(path, threads=threads)
    request = model.create_request()
    past = [name for name in model.input_names if name.startswith("past")]
    present = [name.replace("past", "present") for name in past]
    vocabulary = model.get_tensor("logits").shape[2]
    _, heads, _, size = model.get_tensor(past[0]).shape

    # One array for each cache, with room for all tokens. What a call reads and what it writes are views of it that begin with
    # the same rows, so that only the rows of the new token are written.
    caches = [np.zeros((1, heads, len(prompt) + length, size), np.float32) for _ in past]
    logits = np.empty((1, 1, vocabulary), np.float32)
    tokens, start = list(prompt), time.perf_counter()
    for n in range(len(prompt) + length - 1):
        inputs = {"ids": np.array([[tokens[n]]])}
        if "pos" in model.input_names:
            inputs["pos"] = np.array([[n]])
        inputs |= {name: cache[:, :, :n] for name, cache in zip(past, caches, strict=True)}
        outputs = {name: cache[:, :, : n + 1] for name, cache in zip(present, caches, strict=True)}
        request.infer(inputs, {"logits": logits, **outputs})
        request.wait()
        if n + 1 == len(tokens):
            tokens.append(int(logits.argmax()))
    seconds = time.perf_counter() - start
    print(f"{model.name!r}: {tokens[len(prompt):]}")
    print(f"{1e3 * seconds / (len(tokens) - 1):.3f} ms a token")
    return tokens


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?", default=TINY)
    parser.add_argument("--prompt", type=int, nargs="+", default=[1, 2, 3], help="token ids")
    parser.add_argument("--length", type=int, default=20, help="tokens to be made")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    main(arguments.model, arguments.prompt, arguments.length, arguments.threads)
