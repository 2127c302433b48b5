"""aiortc as a WHIP publisher: sends a white square that moves over grey, until its standard input is closed.

    aiortc_publish.py http://127.0.0.1:8080/whip/cam

Prints one JSON object: the state that was reached, and the packets that the server reports to have received.
"""

import asyncio
import json
import sys

from aiortc import RTCPeerConnection, RTCRtpSender, RTCSessionDescription, VideoStreamTrack
from av import VideoFrame
from whip_http import Session

WIDTH, HEIGHT, SIDE = 320, 240, 64


class Square(VideoStreamTrack):
    """A square that goes from left to right in 60 frames."""

    def __init__(self):
        super().__init__()
        self.count = 0

    async def recv(self) -> VideoFrame:
        pts, time_base = await self.next_timestamp()
        frame = VideoFrame(WIDTH, HEIGHT, "yuv420p")
        left = (self.count % 60) * (WIDTH - SIDE) // 60 & ~1
        for index, plane in enumerate(frame.planes):
            rows = bytearray(b"\x80" * plane.buffer_size) if index else bytearray(b"\x60" * plane.buffer_size)
            if index == 0:
                for y in range(88, 88 + SIDE):
                    rows[y * plane.line_size + left : y * plane.line_size + left + SIDE] = b"\xeb" * SIDE
            plane.update(bytes(rows))
        frame.pts, frame.time_base = pts, time_base
        self.count += 1
        return frame


async def main(url: str) -> None:
    connection = RTCPeerConnection()
    transceiver = connection.addTransceiver(Square(), direction="sendonly")
    codecs = RTCRtpSender.getCapabilities("video").codecs
    transceiver.setCodecPreferences([codec for codec in codecs if codec.mimeType == "video/H264"])
    await connection.setLocalDescription(await connection.createOffer())
    session = await asyncio.to_thread(Session, url, connection.localDescription.sdp)
    await connection.setRemoteDescription(RTCSessionDescription(session.answer, "answer"))
    # The tests say that it is enough by closing the pipe.
    await asyncio.to_thread(sys.stdin.read)
    state = connection.connectionState
    stats = await transceiver.sender.getStats()
    heard = [report for report in stats.values() if report.type == "remote-inbound-rtp"]
    direction = transceiver.currentDirection
    await asyncio.to_thread(session.end)
    await connection.close()
    sent = next(report.packetsSent for report in stats.values() if report.type == "outbound-rtp")
    print(json.dumps({"state": state, "direction": direction, "sent": sent, "reported": len(heard) > 0}))


asyncio.run(asyncio.wait_for(main(sys.argv[1]), 60))
