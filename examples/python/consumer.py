#!/usr/bin/env python3
"""Sends a video to a Sightline server by WebRTC, and prints what the server detects in it.

    python -m venv venv && venv/bin/pip install -r requirements.txt
    venv/bin/python consumer.py --server http://127.0.0.1:8080 video.mp4

Any file that FFmpeg reads will do, over and over; without one, a moving square is sent.
The messages are described in docs/schema/README.md.
"""

import argparse
import asyncio
import fractions
import itertools
import json
import sys
import time
import urllib.error
import urllib.request

import av
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack


class Paced(MediaStreamTrack):
    """Pictures of a generator, each at its time."""

    kind = "video"

    def __init__(self, pictures):
        super().__init__()
        self.pictures = pictures
        self.began = None

    async def recv(self):
        # Decoding takes its time: the event loop has others to serve.
        seconds, frame = await asyncio.to_thread(next, self.pictures)
        if self.began is None:
            self.began = time.monotonic() - seconds
        await asyncio.sleep(max(0.0, self.began + seconds - time.monotonic()))
        frame.pts = round(seconds * 90_000)
        frame.time_base = fractions.Fraction(1, 90_000)
        return frame


def file_pictures(path):
    """The pictures of a file, over and over, with the seconds since the beginning.

    aiortc's own MediaPlayer begins again at time 0 when it loops, which RTP timestamps must not do.
    """
    began = 0.0
    while True:
        with av.open(path) as container:
            if not container.streams.video:
                raise ValueError("there is no video in it")
            stream = container.streams.video[0]
            first, seconds = None, 0.0
            for number, frame in enumerate(container.decode(stream)):
                now = number / 30 if frame.time is None else frame.time
                first = now if first is None else first
                seconds = now - first
                yield began + seconds, frame
            if first is None:
                raise ValueError("there are no pictures in it")
            began += seconds + float(1 / (stream.average_rate or 30))


def moving_square(width=640, height=480, side=120, fps=30):
    """A bright square that goes its rounds over a grey picture."""
    for number in itertools.count():
        frame = av.VideoFrame(width, height, "yuv420p")
        left = number * 6 % (width - side)
        top = (height - side) // 2
        luma = frame.planes[0]
        plain = bytes([90]) * luma.line_size
        marked = plain[:left] + bytes([220]) * side + plain[left + side :]
        luma.update(plain * top + marked * side + plain * (height - top - side))
        for chroma in frame.planes[1:]:
            chroma.update(bytes([128]) * chroma.buffer_size)
        yield number / fps, frame


def post(url, body):
    """Sends JSON and returns the JSON of the answer; a refusal becomes an error with the server's own words."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)
    except urllib.error.HTTPError as refusal:
        try:
            reason = json.load(refusal)["error"]["message"]
        except (ValueError, KeyError, TypeError):
            reason = refusal.reason
        raise SystemExit(f"{url} refused: {reason}") from None
    except (urllib.error.URLError, TimeoutError) as error:
        raise SystemExit(f"{url} cannot be reached: {error}") from None


def describe(message):
    objects = [
        "{class_name}{id} {confidence:.2f} [{box}]".format(
            id=f" #{found['track_id']}" if "track_id" in found else "",
            box=" ".join(f"{edge:.0f}" for edge in found["bbox"]),
            **{key: found[key] for key in ("class_name", "confidence")},
        )
        for found in message["detections"]
    ]
    return f"frame {message['frame_id']:5}  {message['processing_time_ms']:5.1f} ms  {', '.join(objects) or 'nothing'}"


async def count_pictures(track, counts):
    """Takes the annotated pictures; unread, they would pile up."""
    try:
        while True:
            await track.recv()
            counts["pictures"] += 1
    except MediaStreamError:
        pass


async def run(args):
    # Host candidates are all that is needed to reach a server that answers with its own address.
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    over = asyncio.get_running_loop().create_future()
    counts = {"messages": 0, "pictures": 0}
    readers = set()

    def end(error=None):
        if not over.done():
            over.set_result(error)

    # Lost detections are not sent again: newer ones are on their way.
    channel = peer.createDataChannel("detections", ordered=False, maxRetransmits=0)

    @channel.on("message")
    def on_message(text):
        message = json.loads(text)
        if message["type"] == "error":
            print(f"the server says: {message['message']}", file=sys.stderr)
        if message["type"] != "detections" or over.done():
            return
        counts["messages"] += 1
        print(text if args.json else describe(message), flush=True)
        if args.count is not None and counts["messages"] >= args.count:
            end()

    @channel.on("close")
    def on_close():
        end("the server closed the connection")

    @peer.on("connectionstatechange")
    def on_state():
        if peer.connectionState in ("failed", "closed"):
            end(f"the connection {peer.connectionState}")

    @peer.on("track")
    def on_track(track):
        readers.add(asyncio.ensure_future(count_pictures(track, counts)))

    track = Paced(file_pictures(args.video) if args.video else moving_square())
    sender = peer.addTransceiver(track, direction="sendrecv")
    # Sightline speaks H.264; aiortc would put VP8 first.
    codecs = RTCRtpSender.getCapabilities("video").codecs
    sender.setCodecPreferences([codec for codec in codecs if codec.mimeType.lower() == "video/h264"])

    try:
        await peer.setLocalDescription(await peer.createOffer())
        offer = {"sdp": peer.localDescription.sdp, "type": peer.localDescription.type, "stream": args.stream}
        answer = await asyncio.to_thread(post, args.server.rstrip("/") + "/offer", offer)
        await peer.setRemoteDescription(RTCSessionDescription(answer["sdp"], answer["type"]))
        print(f"session {answer['session']}, stream {answer['stream']}; Ctrl-C ends it", file=sys.stderr)
        error = await over
    finally:
        await peer.close()
        print(f"{counts['messages']} messages, {counts['pictures']} annotated pictures", file=sys.stderr)
    if error:
        raise SystemExit(error)


def main():
    parser = argparse.ArgumentParser(description="Send a video to a Sightline server and print its detections.")
    parser.add_argument("video", nargs="?", help="a file that FFmpeg reads; a moving square without it")
    parser.add_argument("--server", default="http://127.0.0.1:8080", help="address of the server (%(default)s)")
    parser.add_argument("--stream", help="name of the stream; the server chooses one without it")
    parser.add_argument("--json", action="store_true", help="print the messages as they come")
    parser.add_argument("--count", type=int, help="stop after so many messages of detections")
    args = parser.parse_args()
    if args.video:
        # A file that cannot be read is known before anything is sent.
        try:
            next(file_pictures(args.video))
        except (av.FFmpegError, OSError, ValueError) as error:
            raise SystemExit(f"{args.video} cannot be sent: {error}") from None
    try:
        asyncio.run(run(args))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
