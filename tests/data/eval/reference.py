"""Makes `cases.json` beside it: labels and guesses of many kinds with what pycocotools says of them.

    python3 -m venv venv && venv/bin/pip install pycocotools==2.0.11 numpy && venv/bin/python reference.py > cases.json
"""

import contextlib
import io
import json
import random

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def near(rng, box, spread):
    x, y, w, h = box
    shift = lambda side: rng.gauss(0, spread) * side
    return [x + shift(w), y + shift(h), max(1.0, w + shift(w)), max(1.0, h + shift(h))]


def rounded(box):
    return [round(value, 2) for value in box]


def case(seed, classes, images, objects, spread, extra, crowd, steps):
    """`steps`: scores take so many values only, so that many are equal."""
    rng = random.Random(seed)
    labels, guesses = [], []
    for image in range(images):
        for _ in range(rng.randint(0, objects)):
            box = [rng.uniform(0, 500), rng.uniform(0, 400), rng.uniform(4, 140), rng.uniform(4, 140)]
            label = {"image": image, "class": rng.randrange(classes), "box": rounded(box)}
            label["crowd"] = rng.random() < crowd
            labels.append(label)
            for _ in range(rng.choice([0, 1, 1, 1, 2]) + (3 if label["crowd"] else 0)):
                guessed = label["class"] if rng.random() < 0.9 else rng.randrange(classes)
                found = rounded(label["box"] if rng.random() < 0.1 else near(rng, box, spread))
                guesses.append({"image": image, "class": guessed, "box": found, "score": rng.randint(1, steps) / steps})
        for _ in range(rng.randint(0, extra)):
            box = [rng.uniform(0, 500), rng.uniform(0, 400), rng.uniform(4, 140), rng.uniform(4, 140)]
            guesses.append(
                {"image": image, "class": rng.randrange(classes), "box": rounded(box), "score": rng.randint(1, steps) / steps}
            )
    return {"classes": classes, "images": images, "labels": labels, "guesses": guesses}


def judged(case):
    truth = COCO()
    truth.dataset = {
        "images": [{"id": n + 1} for n in range(case["images"])],
        "categories": [{"id": n + 1, "name": str(n)} for n in range(case["classes"])],
        "annotations": [
            {
                "id": n + 1,
                "image_id": label["image"] + 1,
                "category_id": label["class"] + 1,
                "bbox": label["box"],
                "area": label["box"][2] * label["box"][3],
                "iscrowd": int(label["crowd"]),
            }
            for n, label in enumerate(case["labels"])
        ],
    }
    truth.createIndex()
    found = [
        {"image_id": g["image"] + 1, "category_id": g["class"] + 1, "bbox": g["box"], "score": g["score"]}
        for g in case["guesses"]
    ]
    run = COCOeval(truth, truth.loadRes(found), "bbox")
    run.evaluate()
    run.accumulate()
    run.summarize()
    precision = run.eval["precision"][:, :, :, 0, 2]  # IoU, recall, class; area all, 100 detections

    def mean(part):
        part = part[part > -1]
        return float(np.mean(part)) if part.size else None

    of = lambda part: {"ap": mean(part), "ap50": mean(part[0])}
    said = [-1 if value is None else value for value in (mean(precision), mean(precision[0]))]
    assert np.allclose(run.stats[:2], said, rtol=0, atol=1e-12)
    return {"all": of(precision), "classes": [of(precision[:, :, n]) for n in range(case["classes"])]}


def main():
    kinds = [
        dict(classes=1, images=1, objects=3, spread=0.05, extra=1, crowd=0, steps=1000),
        dict(classes=2, images=4, objects=5, spread=0.1, extra=3, crowd=0, steps=1000),
        dict(classes=3, images=6, objects=6, spread=0.15, extra=4, crowd=0.2, steps=1000),
        dict(classes=3, images=5, objects=8, spread=0.1, extra=4, crowd=0.3, steps=5),
        dict(classes=4, images=3, objects=3, spread=0.3, extra=2, crowd=0.5, steps=3),
        dict(classes=1, images=1, objects=10, spread=0.1, extra=0, crowd=0.1, steps=100),
    ]
    cases = []
    for seed in range(3):
        for kind in kinds:
            one = case(seed, **kind)
            if one["guesses"] and one["labels"]:
                cases.append(one)
    # More in one picture than count, some of them in a crowd.
    many = case(77, classes=1, images=1, objects=4, spread=0.1, extra=0, crowd=0, steps=1000)
    rng = random.Random(5)
    many["guesses"] += [
        {"image": 0, "class": 0, "box": rounded([rng.uniform(0, 500), rng.uniform(0, 400), 20, 20]), "score": rng.random()}
        for _ in range(140)
    ]
    cases.append(many)
    with contextlib.redirect_stdout(io.StringIO()):
        for one in cases:
            one["expected"] = judged(one)
    print("[" + ",\n".join(json.dumps(one, separators=(",", ":")) for one in cases) + "]")


main()
