"""Serves one ONNX file by the Open Inference Protocol: oip_server.py GRPC_PORT HTTP_PORT NAME FILE [PARENT]

Prints one line when it is ready, and ends with its standard input.
"""

import asyncio
import os
import sys
import threading

from mlserver import MLServer
from mlserver.settings import ModelParameters, ModelSettings, Settings

from oip_model import OnnxModel


async def main() -> None:
    grpc_port, http_port, name, file = sys.argv[1:5]
    settings = Settings(
        host="127.0.0.1",
        grpc_port=int(grpc_port),
        http_port=int(http_port),
        metrics_endpoint=None,
        parallel_workers=0,
        load_models_at_startup=False,
    )
    server = MLServer(settings)
    model = ModelSettings(name=name, implementation=OnnxModel, parameters=ModelParameters(uri=file))

    def watch_parent() -> None:
        sys.stdin.buffer.read()
        os._exit(0)

    threading.Thread(target=watch_parent, daemon=True).start()
    serving = asyncio.create_task(server.start([model]))
    while not serving.done():
        if await server._data_plane.ready():
            models = await server._model_registry.get_models()
            if any(model.name == name and model.ready for model in models):
                print("ready", flush=True)
                break
        await asyncio.sleep(0.05)
    await serving


asyncio.run(main())
