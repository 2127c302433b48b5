"""The HTTP of WHIP (RFC 9725) and WHEP, for peers that are written in Python. Nothing but the standard library."""

import urllib.error
import urllib.parse
import urllib.request

SDP = "application/sdp"
FRAGMENT = "application/trickle-ice-sdpfrag"


class Session:
    """What a 201 gave: the answer, the session's address and its entity tag."""

    def __init__(self, url: str, offer: str):
        self.headers, self.answer = self._request("POST", url, 201, offer, {"Content-Type": SDP})
        self.url = urllib.parse.urljoin(url, self.headers["Location"])
        self.etag = self.headers["ETag"]

    def trickle(self, offer: str, candidates: list[str]) -> None:
        """Sends candidates that were gathered after the offer (RFC 9725 §4.3.2)."""
        own = [line for line in offer.splitlines() if line.startswith(("a=ice-ufrag:", "a=ice-pwd:"))][:2]
        media = next(line for line in offer.splitlines() if line.startswith("m="))
        lines = [media, "a=mid:0", *own, *(f"a={candidate}" for candidate in candidates), "a=end-of-candidates", ""]
        headers = {"Content-Type": FRAGMENT, "If-Match": self.etag}
        self._request("PATCH", self.url, 204, "\r\n".join(lines), headers)

    def end(self) -> None:
        self._request("DELETE", self.url, 200, None, {})

    @staticmethod
    def _request(method: str, url: str, expected: int, body: str | None, headers: dict[str, str]):
        request = urllib.request.Request(url, body and body.encode(), headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                status, told, text = response.status, response.headers, response.read().decode()
        except urllib.error.HTTPError as error:
            raise SystemExit(f"{method} {url}: {error.code} {error.read().decode()}") from None
        if status != expected:
            raise SystemExit(f"{method} {url}: {status}, not {expected}")
        return told, text
