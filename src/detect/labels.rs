//! The class names of COCO, in the orders that published models use.

/// COCO's own category ids of its 80 things, in the order of [`COCO80`]: 1 to 90, with gaps.
#[rustfmt::skip]
const CATEGORY_IDS: [usize; 80] = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 27, 28, 31, 32, 33, 34, 35, 36,
    37, 38, 39, 40, 41, 42, 43, 44, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63, 64, 65, 67, 70,
    72, 73, 74, 75, 76, 77, 78, 79, 80, 81, 82, 84, 85, 86, 87, 88, 89, 90,
];

/// The names by COCO's own category id, 0 to 90, as torchvision, TensorFlow's models and RF-DETR number them; the ids that
/// COCO does not use are called by their number.
pub(super) fn coco91() -> Vec<String> {
    let mut names: Vec<_> = (0..91).map(|id| format!("class {id}")).collect();
    for (id, name) in CATEGORY_IDS.into_iter().zip(COCO80) {
        if let Some(place) = names.get_mut(id) {
            name.clone_into(place);
        }
    }
    names
}

/// COCO 2017 (Lin et al. 2014, arXiv:1405.0312): the 80 thing classes by ascending category id.
pub(super) const COCO80: [&str; 80] = [
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "airplane",
    "bus",
    "train",
    "truck",
    "boat",
    "traffic light",
    "fire hydrant",
    "stop sign",
    "parking meter",
    "bench",
    "bird",
    "cat",
    "dog",
    "horse",
    "sheep",
    "cow",
    "elephant",
    "bear",
    "zebra",
    "giraffe",
    "backpack",
    "umbrella",
    "handbag",
    "tie",
    "suitcase",
    "frisbee",
    "skis",
    "snowboard",
    "sports ball",
    "kite",
    "baseball bat",
    "baseball glove",
    "skateboard",
    "surfboard",
    "tennis racket",
    "bottle",
    "wine glass",
    "cup",
    "fork",
    "knife",
    "spoon",
    "bowl",
    "banana",
    "apple",
    "sandwich",
    "orange",
    "broccoli",
    "carrot",
    "hot dog",
    "pizza",
    "donut",
    "cake",
    "chair",
    "couch",
    "potted plant",
    "bed",
    "dining table",
    "toilet",
    "tv",
    "laptop",
    "mouse",
    "remote",
    "keyboard",
    "cell phone",
    "microwave",
    "oven",
    "toaster",
    "sink",
    "refrigerator",
    "book",
    "clock",
    "vase",
    "scissors",
    "teddy bear",
    "hair drier",
    "toothbrush",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_category_ids_name_the_things_that_coco_gives_them() {
        let names = coco91();
        assert_eq!(names.len(), 91);
        for (id, name) in
            [(0, "class 0"), (1, "person"), (12, "class 12"), (18, "dog"), (44, "bottle"), (90, "toothbrush")]
        {
            assert_eq!(names[id], name);
        }
        assert_eq!(names.iter().filter(|name| name.starts_with("class ")).count(), 11);
    }
}
