"""The other servers of scripts/compare, written as their own examples are: offer in, decode, the same model, draw, encode.

    servers.py aiortc|fastrtc MODEL.onnx PORT

Both answer `POST /offer` as Sightline does, look at every frame with YOLOX (416 pixels, letterbox from the top left, grey 114, BGR
without mean: the model's own convention), draw the boxes with OpenCV, and tell the client of each frame that was looked at
with a `detections` message. The ONNX Runtime has one thread a run and one session for all, as in Sightline. aiortc looks on a thread of
a pool, so that its event loop goes on meanwhile; FastRTC calls its handler itself, where it will.
"""

import asyncio
import json
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import onnxruntime
import uvicorn
from aiortc import RTCPeerConnection, RTCSessionDescription, VideoStreamTrack
from av import VideoFrame
from fastapi import FastAPI
from pydantic import BaseModel

SIDE = 416
CONFIDENCE, IOU = 0.25, 0.45


class Yolox:
    """A picture in BGR to boxes `[x1, y1, x2, y2, score, class]` in its pixels."""

    def __init__(self, path: str):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name
        grids, strides = [], []
        for stride in (8, 16, 32):
            side = SIDE // stride
            x, y = np.meshgrid(np.arange(side), np.arange(side))
            grids.append(np.stack((x, y), 2).reshape(-1, 2))
            strides.append(np.full((side * side, 1), stride))
        self.grid, self.stride = np.concatenate(grids), np.concatenate(strides)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        ratio = min(SIDE / height, SIDE / width)
        size = int(width * ratio), int(height * ratio)
        padded = np.full((SIDE, SIDE, 3), 114, np.uint8)
        padded[: size[1], : size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        tensor = np.ascontiguousarray(padded.transpose(2, 0, 1)[None], np.float32)
        output = self.session.run(None, {self.input: tensor})[0][0]
        scores = output[:, 4:5] * output[:, 5:]
        classes = scores.argmax(1)
        best = scores[np.arange(len(scores)), classes]
        keep = best > CONFIDENCE
        output, classes, best = output[keep], classes[keep], best[keep]
        centre = (output[:, :2] + self.grid[keep]) * self.stride[keep]
        sides = np.exp(output[:, 2:4]) * self.stride[keep]
        corners = np.concatenate((centre - sides / 2, centre + sides / 2), 1) / ratio
        boxes = np.concatenate((corners[:, :2], corners[:, 2:] - corners[:, :2]), 1)
        kept = cv2.dnn.NMSBoxesBatched(boxes, best, classes, CONFIDENCE, IOU) if len(boxes) else []
        kept = np.asarray(kept, int).reshape(-1)
        return np.concatenate((corners[kept], best[kept, None], classes[kept, None]), 1)


def draw(image: np.ndarray, found: np.ndarray) -> None:
    for x1, y1, x2, y2, score, kind in found:
        at = int(x1), int(y1)
        cv2.rectangle(image, at, (int(x2), int(y2)), (60, 220, 60), 2)
        cv2.putText(image, f"{int(kind)} {score:.2f}", (at[0], max(at[1] - 4, 12)), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (60, 220, 60), 1)


def message(found: np.ndarray) -> str:
    items = [{"bbox": item[:4].round(1).tolist(), "confidence": round(float(item[4]), 4), "class_id": int(item[5])} for item in found]
    return json.dumps({"type": "detections", "detections": items})


class Offer(BaseModel):
    sdp: str
    type: str


def aiortc(model: Yolox) -> FastAPI:
    app, connections = FastAPI(), set()
    pool = ThreadPoolExecutor(2)

    class Annotated(VideoStreamTrack):
        def __init__(self, track, channels):
            super().__init__()
            self.track, self.channels = track, channels

        async def recv(self) -> VideoFrame:
            frame = await self.track.recv()
            new, found = await asyncio.get_running_loop().run_in_executor(pool, self.look, frame)
            new.pts, new.time_base = frame.pts, frame.time_base
            for channel in self.channels:
                channel.send(message(found))
            return new

        @staticmethod
        def look(frame: VideoFrame):
            image = frame.to_ndarray(format="bgr24")
            found = model(image)
            draw(image, found)
            return VideoFrame.from_ndarray(image, format="bgr24"), found

    @app.post("/offer")
    async def offer(offer: Offer):
        connection, channels = RTCPeerConnection(), []
        connections.add(connection)

        @connection.on("datachannel")
        def on_datachannel(channel):
            channels.append(channel)

        @connection.on("track")
        def on_track(track):
            if track.kind == "video":
                connection.addTrack(Annotated(track, channels))

        @connection.on("connectionstatechange")
        async def on_state():
            if connection.connectionState in ("failed", "closed"):
                await connection.close()
                connections.discard(connection)

        await connection.setRemoteDescription(RTCSessionDescription(offer.sdp, offer.type))
        await connection.setLocalDescription(await connection.createAnswer())
        return {"sdp": connection.localDescription.sdp, "type": connection.localDescription.type}

    return app


def fastrtc(model: Yolox) -> FastAPI:
    from fastrtc import Stream, get_current_context
    from fastrtc.stream import Body

    def look(image: np.ndarray) -> np.ndarray:
        found = model(image)
        draw(image, found)
        channel = stream.data_channels.get(get_current_context().webrtc_id)
        if channel is not None:
            channel.send(message(found))
        return image

    stream = Stream(look, modality="video", mode="send-receive", concurrency_limit=64)
    app = FastAPI()

    @app.post("/offer")
    async def offer(offer: Offer):
        name = uuid.uuid4().hex
        answer = await stream.offer(Body(sdp=offer.sdp, type=offer.type, webrtc_id=name))
        # Until it has its further inputs, of which this handler has none, frames go back as they came.
        stream.set_input(name, None)
        return answer

    return app


if __name__ == "__main__":
    kind, path, port = sys.argv[1:]
    app = {"aiortc": aiortc, "fastrtc": fastrtc}[kind](Yolox(path))

    @app.get("/healthz")
    async def healthz():
        return "ok"

    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning")
