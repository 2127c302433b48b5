"""aiortc as a WHEP player with a datachannel: watches so many frames and says what it saw.

    aiortc_view.py http://127.0.0.1:8080/whep/cam 60

Prints one JSON object: the frames' number, size and brightest and darkest luma, and the messages by type.
"""

import asyncio
import json
import sys
from collections import Counter

from aiortc import RTCPeerConnection, RTCSessionDescription
from whip_http import Session


async def main(url: str, wanted: int) -> None:
    connection = RTCPeerConnection()
    connection.addTransceiver("video", direction="recvonly")
    connection.addTransceiver("audio", direction="recvonly")
    messages: Counter[str] = Counter()
    streams: set[str] = set()
    channel = connection.createDataChannel("detections", ordered=False, maxRetransmits=0)
    track: asyncio.Future = asyncio.get_running_loop().create_future()

    @channel.on("message")
    def on_message(text: str) -> None:
        message = json.loads(text)
        messages[message["type"]] += 1
        if "stream" in message:
            streams.add(message["stream"])

    @connection.on("track")
    def on_track(found) -> None:
        if found.kind == "video":
            track.set_result(found)

    await connection.setLocalDescription(await connection.createOffer())
    session = await asyncio.to_thread(Session, url, connection.localDescription.sdp)
    await connection.setRemoteDescription(RTCSessionDescription(session.answer, "answer"))
    video = await track
    timestamps, darkest, brightest = [], 255, 0
    while len(timestamps) < wanted:
        frame = await video.recv()
        timestamps.append(frame.pts)
        luma = bytes(frame.planes[0])
        rows = [luma[y * frame.planes[0].line_size :][: frame.width] for y in range(frame.height)]
        darkest, brightest = min(darkest, *map(min, rows)), max(brightest, *map(max, rows))
    await asyncio.to_thread(session.end)
    await connection.close()
    print(json.dumps({
        "frames": len(timestamps), "rising": timestamps == sorted(timestamps), "width": frame.width, "height": frame.height,
        "darkest": darkest, "brightest": brightest, "messages": messages, "streams": sorted(streams),
    }))


asyncio.run(asyncio.wait_for(main(sys.argv[1], int(sys.argv[2])), 60))
