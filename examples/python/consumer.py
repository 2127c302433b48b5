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
import json
import sys
import time
import urllib.error
import urllib.request

from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.contrib.media import MediaPlayer
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import VideoFrame


class MovingSquare(MediaStreamTrack):
    """A bright square that goes its rounds over a grey picture."""

    kind = "video"
    width, height, side, fps = 640, 480, 120, 30

    def __init__(self):
        super().__init__()
        self.number = 0
        self.began = time.monotonic()

    async def recv(self):
        due = self.began + self.number / self.fps
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        frame = VideoFrame(self.width, self.height, "yuv420p")
        left = self.number * 6 % (self.width - self.side)
        luma = frame.planes[0]
        plain = bytes([90]) * luma.line_size
        marked = plain[:left] + bytes([220]) * self.side + plain[left + self.side :]
        top = (self.height - self.side) // 2
        luma.update(plain * top + marked * self.side + plain * (self.height - top - self.side))
        for chroma in frame.planes[1:]:
            chroma.update(bytes([128]) * chroma.buffer_size)
        frame.pts = self.number * 90_000 // self.fps
        frame.time_base = fractions.Fraction(1, 90_000)
        self.number += 1
        return frame


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

    player = MediaPlayer(args.video, loop=True) if args.video else None
    if player and not player.video:
        raise SystemExit(f"{args.video} has no video")
    sender = peer.addTransceiver(player.video if player else MovingSquare(), direction="sendrecv")
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
        if player:
            player.video.stop()
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
    try:
        asyncio.run(run(parser.parse_args()))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
