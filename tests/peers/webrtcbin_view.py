"""GStreamer's webrtcbin as a WHEP player that trickles: its offer goes out before it has gathered, the candidates follow by
PATCH. For Debian's Python, which sees Debian's bindings.

    webrtcbin_view.py http://127.0.0.1:8080/whep/cam 60

Prints one JSON object: how many frames were decoded, their size, and how many candidates were trickled.
"""

import json
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402
from whip_http import Session  # noqa: E402

CAPS = (
    "application/x-rtp,media=video,encoding-name=H264,payload=102,clock-rate=90000,"
    "packetization-mode=(string)1,profile-level-id=(string)42e01f,level-asymmetry-allowed=(string)1"
)


class Player:
    def __init__(self, url: str, wanted: int):
        self.url, self.wanted = url, wanted
        self.loop = GLib.MainLoop()
        self.frames, self.size, self.candidates, self.fault = 0, None, [], None
        self.session, self.offer, self.gathered, self.trickled = None, None, False, False
        self.pipeline = Gst.Pipeline.new()
        self.bin = Gst.ElementFactory.make("webrtcbin")
        self.bin.set_property("bundle-policy", GstWebRTC.WebRTCBundlePolicy.MAX_BUNDLE)
        self.pipeline.add(self.bin)
        bus = self.pipeline.get_bus()
        bus.add_signal_watch()
        bus.connect("message::error", self.on_error)
        self.bin.connect("on-ice-candidate", self.on_candidate)
        self.bin.connect("notify::ice-gathering-state", self.on_gathering)
        self.bin.connect("pad-added", self.on_pad)
        receive = GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY
        self.bin.emit("add-transceiver", receive, Gst.Caps.from_string(CAPS))

    def run(self) -> None:
        self.pipeline.set_state(Gst.State.PLAYING)
        self.bin.emit("create-offer", None, Gst.Promise.new_with_change_func(self.on_offer, self.bin, None))
        GLib.timeout_add_seconds(40, self.stop, "not enough frames came")
        self.loop.run()
        self.pipeline.set_state(Gst.State.NULL)
        if self.session:
            self.session.end()
        if self.fault:
            raise SystemExit(f"{self.fault}: {self.frames} frames")
        print(json.dumps({"frames": self.frames, "size": self.size, "trickled": len(self.candidates)}))

    def stop(self, fault: str | None = None) -> bool:
        self.fault = fault
        self.loop.quit()
        return False

    def on_error(self, _bus, message) -> None:
        self.stop(message.parse_error()[0].message)

    def on_offer(self, promise, _bin, _) -> None:
        promise.wait()
        reply = promise.get_reply()
        offer = reply.get_value("offer")
        self.offer = offer.sdp.as_text()
        self.bin.emit("set-local-description", offer, Gst.Promise.new())
        # HTTP takes its time: not on the element's own thread.
        GLib.idle_add(self.signal)

    def signal(self) -> bool:
        assert "a=candidate:" not in self.offer, "what is gathered is trickled"
        self.session = Session(self.url, self.offer)
        _, message = GstSdp.SDPMessage.new_from_text(self.session.answer)
        answer = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, message)
        self.bin.emit("set-remote-description", answer, Gst.Promise.new())
        self.trickle()
        return False

    def on_candidate(self, _bin, _line: int, candidate: str) -> None:
        if candidate:
            self.candidates.append(candidate)

    def on_gathering(self, *_) -> None:
        if self.bin.get_property("ice-gathering-state") == GstWebRTC.WebRTCICEGatheringState.COMPLETE:
            self.gathered = True
            GLib.idle_add(self.trickle)

    def trickle(self) -> bool:
        if self.gathered and self.session and not self.trickled:
            self.trickled = True
            self.session.trickle(self.offer, self.candidates)
        return False

    def on_pad(self, _bin, pad) -> None:
        if pad.direction != Gst.PadDirection.SRC:
            return
        decode = Gst.parse_bin_from_description(
            "rtph264depay ! h264parse ! avdec_h264 ! fakesink name=sink sync=false signal-handoffs=true", True
        )
        decode.get_by_name("sink").connect("handoff", self.on_frame)
        self.pipeline.add(decode)
        decode.sync_state_with_parent()
        pad.link(decode.get_static_pad("sink"))

    def on_frame(self, _sink, _buffer, pad) -> None:
        caps = pad.get_current_caps().get_structure(0)
        self.size = [caps.get_value("width"), caps.get_value("height")]
        self.frames += 1
        if self.frames == self.wanted:
            GLib.idle_add(self.stop)


Gst.init(None)
Player(sys.argv[1], int(sys.argv[2])).run()
