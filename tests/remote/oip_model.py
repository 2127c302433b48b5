"""A model for mlserver: any ONNX file, run by the ONNX Runtime, with the outside that the file has."""

import asyncio

import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse, MetadataTensor

DATATYPES = {"tensor(float)": "FP32", "tensor(float16)": "FP16", "tensor(uint8)": "UINT8", "tensor(int64)": "INT64"}


def metadata(port) -> MetadataTensor:
    shape = [side if isinstance(side, int) else -1 for side in port.shape]
    return MetadataTensor(name=port.name, datatype=DATATYPES[port.type], shape=shape)


class OnnxModel(MLModel):
    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            self.settings.parameters.uri, options, providers=["CPUExecutionProvider"]
        )
        self.inputs = [metadata(port) for port in self.session.get_inputs()]
        self.outputs = [metadata(port) for port in self.session.get_outputs()]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        inputs = {tensor.name: NumpyCodec.decode_input(tensor) for tensor in payload.inputs}
        names = [tensor.name for tensor in self.outputs]
        values = await asyncio.to_thread(self.session.run, names, inputs)
        outputs = [NumpyCodec.encode_output(name, value) for name, value in zip(names, values)]
        return InferenceResponse(model_name=self.name, outputs=outputs)
