"""A camera for the tests: GStreamer's RTSP server, which sends clips that were encoded before, in a loop.

Run with Debian's Python, which has GStreamer's bindings:

    /usr/bin/python3 camera_server.py [--port N] [--user U --password P --auth basic|digest] [--clips DIR] MOUNT…

A MOUNT is `NAME:KIND[,OPTION=VALUE…]`; the stream is at rtsp://127.0.0.1:PORT/NAME. KIND is h264, h265, mjpeg or vp8.
Options: size=640x360, fps=30, seconds=2 (of the clip; it is repeated), gop=FRAMES (one second), profile=baseline|main|high,
bframes=N, bitrate=KBIT, pattern=NAME (of videotestsrc: ball; smpte has noise in it, which takes bits), audio=pcmu|pcma|aac,
other=WxH (every other round has this size), interlaced=1.

It prints `listening PORT` when it is ready. Clips are kept in DIR and encoded once for each choice of options.
"""

import argparse
import hashlib
import os
import pickle
import sys
import tempfile
import threading
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

CAPS = {
    "h264": "video/x-h264,stream-format=byte-stream,alignment=au",
    "h265": "video/x-h265,stream-format=byte-stream,alignment=au",
    "mjpeg": "image/jpeg",
    "vp8": "video/x-vp8",
}
# The parameter sets are in the clip already, before each IDR.
PAYLOADERS = {"h264": "rtph264pay", "h265": "rtph265pay", "mjpeg": "rtpjpegpay", "vp8": "rtpvp8pay"}
AUDIO = {
    "pcmu": "audio/x-raw,rate=8000,channels=1 ! mulawenc ! rtppcmupay name=pay1 pt=0",
    "pcma": "audio/x-raw,rate=8000,channels=1 ! alawenc ! rtppcmapay name=pay1 pt=8",
    "aac": "audio/x-raw,rate=48000,channels=1 ! avenc_aac ! rtpmp4gpay name=pay1 pt=97",
}


def encoder(kind, options):
    gop = options.get("gop", options["fps"])
    if kind == "h264":
        profile = options.get("profile", "baseline")
        bframes = int(options.get("bframes", 0))
        interlaced = " interlaced=true" if options.get("interlaced") else ""
        return (
            f"x264enc speed-preset=veryfast key-int-max={gop} bframes={bframes} b-adapt=false b-pyramid=false cabac={'false' if profile == 'baseline' else 'true'}"
            f" dct8x8={'true' if profile == 'high' else 'false'} bitrate={options.get('bitrate', 1000)} threads=1 rc-lookahead=0"
            f" option-string=scenecut=0:open-gop=0{interlaced} ! video/x-h264,profile={profile} ! h264parse config-interval=-1"
        )
    if kind == "h265":
        return (
            f"x265enc speed-preset=ultrafast key-int-max={gop} bitrate={options.get('bitrate', 1000)}"
            " option-string=bframes=0:scenecut=0:repeat-headers=1:pools=1 ! h265parse config-interval=-1"
        )
    if kind == "vp8":
        return "vp8enc deadline=1 cpu-used=8"
    return "jpegenc quality=70"


def encode(kind, options, size):
    """The clip as [(data, time shown − time sent in ns, stands alone)]."""
    width, height = size.split("x")
    fps, frames = int(options["fps"]), int(options["fps"]) * int(options["seconds"])
    mode = ",interlace-mode=interleaved,field-order=top-field-first" if options.get("interlaced") else ""
    raw = f"video/x-raw,format=I420,width={width},height={height},framerate={fps}/1{mode}"
    pipeline = Gst.parse_launch(
        f"videotestsrc num-buffers={frames} pattern={options.get('pattern', 'ball')} background-color=0xff306080 ! {raw}"
        f" ! {encoder(kind, options)}"
        f" ! {CAPS[kind]} ! appsink name=sink sync=false"
    )
    sink = pipeline.get_by_name("sink")
    pipeline.set_state(Gst.State.PLAYING)
    clip, times = [], []
    while sample := sink.emit("pull-sample"):
        buffer = sample.get_buffer()
        alone = not buffer.has_flags(Gst.BufferFlags.DELTA_UNIT)
        clip.append((buffer.extract_dup(0, buffer.get_size()), alone))
        times.append(buffer.pts)
    error = pipeline.get_bus().pop_filtered(Gst.MessageType.ERROR)
    pipeline.set_state(Gst.State.NULL)
    if error or len(clip) != frames:
        sys.exit(f"{kind} {options}: {len(clip)} of {frames} pictures: {error and error.parse_error()}")
    # Nothing is shown before it is sent.
    duration = Gst.SECOND // fps
    delays = [pts - times[0] - n * duration for n, pts in enumerate(times)]
    return [(data, delay - min(delays), alone) for (data, alone), delay in zip(clip, delays)]


def clip(kind, options, size, folder):
    name = hashlib.sha256(repr((4, kind, size, sorted(options.items()))).encode()).hexdigest()[:24]
    path = os.path.join(folder, f"{name}.clip")
    if not os.path.exists(path):
        # Tests run side by side: each writes its own and puts it in place whole.
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            pickle.dump(encode(kind, options, size), file)
        os.replace(file.name, path)
    with open(path, "rb") as file:
        return pickle.load(file)


class Sender:
    """Sends the rounds of a mount to the media of its viewers, at the clip's own rate."""

    def __init__(self, rounds, fps):
        self.rounds, self.duration = rounds, Gst.SECOND // fps

    def run(self, source, stopped):
        units = self.units()
        # The first one is what the server looks at to describe the stream.
        data, delay, _ = next(units)
        self.push(source, data, delay, 0)
        while not stopped.is_set() and source.get_state(0)[1] != Gst.State.PLAYING:
            time.sleep(0.002)
        clock, n = source.get_clock(), 0
        begin = clock.get_time() - source.get_base_time() if clock else 0
        # From an IDR on, as a camera does for its first viewer.
        units = self.units()
        while not stopped.is_set():
            data, delay, _ = next(units)
            shown = begin + n * self.duration
            if self.push(source, data, shown + delay, shown) != Gst.FlowReturn.OK:
                return
            n += 1
            wait = begin + n * self.duration - (clock.get_time() - source.get_base_time())
            if wait > 0:
                time.sleep(wait / Gst.SECOND)
            elif wait < -Gst.SECOND:
                # Frozen meanwhile: a camera does not send what it has not seen.
                begin -= wait

    def units(self):
        while True:
            for units in self.rounds:
                yield from units

    def push(self, source, data, pts, dts):
        buffer = Gst.Buffer.new_wrapped(data)
        buffer.pts, buffer.dts, buffer.duration = pts, dts, self.duration
        return source.emit("push-buffer", buffer)


class Factory(GstRtspServer.RTSPMediaFactory):
    def __init__(self, kind, options, folder):
        super().__init__()
        audio = options.pop("audio", None)
        sizes = [options.pop("size", "640x360")] + ([options.pop("other")] if "other" in options else [])
        options.setdefault("fps", "30")
        options.setdefault("seconds", "2")
        self.sender = Sender([clip(kind, options, size, folder) for size in sizes], int(options["fps"]))
        # Only JPEG's payloader has to be told; in the others the size may change on the way.
        width, height = sizes[0].split("x")
        size = f",width={width},height={height}" if kind == "mjpeg" else ""
        audio = f" audiotestsrc is-live=true samplesperbuffer=160 wave=ticks ! {AUDIO[audio]}" if audio else ""
        self.set_launch(
            f"( appsrc name=source is-live=true format=time max-bytes=0 caps={CAPS[kind]}{size},framerate={options['fps']}/1"
            f" ! {PAYLOADERS[kind]} name=pay0 pt=96{audio} )"
        )
        self.set_shared(True)
        self.set_latency(0)
        self.connect("media-configure", self.on_media)

    def on_media(self, _factory, media):
        stopped = threading.Event()
        media.connect("unprepared", lambda _media: stopped.set())
        source = media.get_element().get_by_name("source")
        threading.Thread(target=self.sender.run, args=(source, stopped), daemon=True).start()


def protect(server, factories, user, password, method):
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    if method == "digest":
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(user, password, token)
    else:
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    server.set_auth(auth)
    for factory in factories:
        permissions = GstRtspServer.RTSPPermissions()
        for permission in ("media.factory.access", "media.factory.construct"):
            permissions.add_permission_for_role("viewer", permission, True)
        factory.set_permissions(permissions)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", default="0")
    parser.add_argument("--user")
    parser.add_argument("--password", default="")
    parser.add_argument("--auth", choices=["basic", "digest"], default="basic")
    parser.add_argument("--clips", default=tempfile.gettempdir())
    parser.add_argument("mounts", nargs="+")
    arguments = parser.parse_args()
    Gst.init(None)
    os.makedirs(arguments.clips, exist_ok=True)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(arguments.port)
    factories = []
    for mount in arguments.mounts:
        name, _, rest = mount.partition(":")
        kind, *options = rest.split(",")
        factory = Factory(kind, dict(option.split("=", 1) for option in options), arguments.clips)
        server.get_mount_points().add_factory(f"/{name}", factory)
        factories.append(factory)
    if arguments.user:
        protect(server, factories, arguments.user, arguments.password, arguments.auth)
    if not server.attach(None):
        sys.exit(f"port {arguments.port} is taken")
    print(f"listening {server.get_bound_port()}", flush=True)
    GLib.MainLoop().run()


main()
