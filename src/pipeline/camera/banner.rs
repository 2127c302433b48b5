//! What viewers read in the picture of a camera that shows none.

use std::sync::Mutex;

use crate::pipeline::parts::Signal;
use crate::pipeline::stream::Stream;
use crate::pipeline::video::lock;
use crate::source::camera::CameraState;

/// What is drawn while no picture comes.
const NO_SIGNAL: &str = "no signal";
/// What is drawn before the first attempt has succeeded or failed.
const CONNECTING: &str = "connecting";
/// What is drawn while it is paused.
const DISABLED: &str = "disabled";

/// What stands in the picture of a camera that shows none.
#[derive(Debug, Default)]
pub(super) struct Banner(Mutex<Option<&'static str>>);

impl Banner {
    /// Puts the text up, in place of another.
    pub(super) fn put_up(&self, stream: &Stream, text: &'static str) {
        self.change(stream, |_| Some(text));
    }

    /// No picture comes from here on; if more is known of it, that stays.
    pub(super) fn lost(&self, stream: &Stream) {
        self.change(stream, |shown| shown.or(Some(NO_SIGNAL)));
    }

    /// Says something else, if anything is up.
    pub(super) fn correct(&self, stream: &Stream, text: Option<&'static str>) {
        self.change(stream, |shown| shown.map(|shown| text.unwrap_or(shown)));
    }

    pub(super) fn take_down(&self, stream: &Stream) {
        self.change(stream, |_| None);
    }

    fn change(&self, stream: &Stream, change: impl FnOnce(Option<&'static str>) -> Option<&'static str>) {
        let mut shown = lock(&self.0);
        let next = change(*shown);
        if next != *shown {
            *shown = next;
            stream.set_signal(next.map_or(Signal::Live, |text| Signal::Lost(text.to_owned())));
        }
    }
}

/// What to say of a camera of which nothing is known yet.
pub(super) fn at_first(enabled: bool) -> &'static str {
    if enabled { CONNECTING } else { DISABLED }
}

/// What to say of a camera in this state; `None` where there is nothing new to say.
pub(super) fn words(enabled: bool, state: CameraState) -> Option<&'static str> {
    match state {
        _ if !enabled => Some(DISABLED),
        CameraState::Unauthorized => Some("wrong user or password"),
        CameraState::Unsupported => Some("video not supported"),
        CameraState::Backoff | CameraState::Stalled => Some(NO_SIGNAL),
        CameraState::Idle => Some(CONNECTING),
        // It may be the tenth attempt of many.
        CameraState::Connecting | CameraState::Live | CameraState::Disabled => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_says_what_to_do() {
        assert_eq!(words(false, CameraState::Live), Some("disabled"));
        assert_eq!(words(true, CameraState::Unauthorized), Some("wrong user or password"));
        assert_eq!(words(true, CameraState::Connecting), None, "what was said before still holds");
    }
}
