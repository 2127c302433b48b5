"""The table of scripts/compare from the reports in a folder; into a page, between its markers, where one is named.

    table.py FOLDER [PAGE.md]
"""

import json
import sys
import time
from pathlib import Path

BEGIN, END = "<!-- scripts/compare: begin -->", "<!-- scripts/compare: end -->"
NAMES = {"sightline": "Sightline", "aiortc": "aiortc", "fastrtc": "FastRTC"}


def quantiles(of: dict | None) -> str:
    return "–" if of is None else " / ".join(f"{of[key]:.1f}" for key in ("p50", "p95", "p99"))


def rows(kind: str, reports: list[dict]) -> list[str]:
    lines = []
    for step in sorted((step for report in reports for step in report["steps"]), key=lambda step: step["sessions"]):
        if step["failed"]:
            lines.append(f"| {NAMES[kind]} | {step['sessions']} | {step['failed'].splitlines()[0]} | | | | | |")
            continue
        each = step["each"]
        cpu, own = step["server_cpu"], step["generator_cpu"]
        lines.append(
            f"| {NAMES[kind]} | {step['sessions']} | {min(one['fps'] for one in each):.1f} "
            f"| {min(one['detections'] for one in each):.1f} | {quantiles(step['turnaround_ms'])} "
            f"| {quantiles(step['server_added_ms'])} | {cpu['total']:.0f} + {own['total']:.0f} | {step['server_rss_mib']:.0f} |"
        )
    return lines


def main(folder: str, page: str = "") -> None:
    found = {kind: [json.loads(path.read_text()) for path in Path(folder).glob(f"{kind}-*.json") if path.stat().st_size] for kind in NAMES}
    first = next(report for reports in found.values() for report in reports)
    machine = first["machine"]
    day = time.strftime("%Y-%m-%d", time.gmtime(first["unix_time"]))
    width, height = first["size"]
    text = (
        f"{day}, {machine['cores']} cores of {machine['processor']}, {width}×{height} at {first['fps']} fps, "
        f"{first['seconds']:.0f} s a run.\n\n"
        "| server | sessions | frames/s | detections/s | turnaround p50 / p95 / p99 ms | server-added p50 / p95 / p99 ms "
        "| CPU %, server + generator | memory MiB |\n|---|---|---|---|---|---|---|---|\n"
        + "\n".join(line for kind, reports in found.items() for line in rows(kind, reports))
        + "\n"
    )
    print(text)
    if page:
        path = Path(page)
        before, rest = path.read_text().split(BEGIN)
        _, after = rest.split(END)
        path.write_text(f"{before}{BEGIN}\n{text}{END}{after}")


main(*sys.argv[1:])
