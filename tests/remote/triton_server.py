"""A real Triton with one model: triton_server.py GRPC_PORT HTTP_PORT METRICS_PORT

The model is the one of `brightness` in tests/support/onnx.rs, as a function in Python: PyTriton has no other backend. Prints one line when it
is ready, and ends with its standard input.
"""

import sys

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

ANCHORS = 8 * 8 + 4 * 4 + 2 * 2


@batch
def brightness(images):
    output = np.zeros((len(images), ANCHORS, 6), np.float32)
    # The first cell of stride 32: a box of 32×32 pixels around (32, 24).
    output[:, ANCHORS - 4, :2] = [1.0, 0.75]
    output[:, ANCHORS - 4, 4] = images.mean(axis=(1, 2, 3)) / 255.0
    output[:, ANCHORS - 4, 5] = 1.0
    return [output]


def main() -> None:
    grpc, http, metrics = (int(port) for port in sys.argv[1:4])
    here = {"grpc_address": "127.0.0.1", "http_address": "127.0.0.1"}
    with Triton(config=TritonConfig(grpc_port=grpc, http_port=http, metrics_port=metrics, **here)) as triton:
        triton.bind(
            model_name="bright",
            infer_func=brightness,
            inputs=[Tensor(name="images", dtype=np.float32, shape=(3, 64, 64))],
            outputs=[Tensor(name="output", dtype=np.float32, shape=(ANCHORS, 6))],
            config=ModelConfig(max_batch_size=8),
        )
        triton.run()
        print("ready", flush=True)
        sys.stdin.buffer.read()


# Its models run in processes that import this file.
if __name__ == "__main__":
    main()
