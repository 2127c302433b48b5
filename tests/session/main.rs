//! A real client against the real server, packet by packet: both in this process, with HTTP, ICE, DTLS, SRTP and SCTP
//! between them.
//!
//! Which tests hold which of the invariants of the design:
//!
//! | invariant | tests |
//! |---|---|
//! | 1 detection never delays video | `video::a_detector_that_never_finishes_delays_no_frame`, `video::a_slow_detector_skips_frames_and_the_video_does_not`, `overlay::exact_sends_detected_frames_with_their_own_boxes` |
//! | 2 nothing queues without a bound | `overload::…`, `video::of_a_burst_only_the_newest_is_shown_and_the_rest_is_counted`, `channel::a_reader_that_is_too_slow_loses_messages_and_the_video_nothing` |
//! | 3 every frame can be named | `video::what_comes_back_has_the_timestamps_that_were_sent`, `video::every_message_names_a_frame_that_was_sent`, `outage::…` |
//! | 4 every frame has a ledger | `video::every_frame_has_a_ledger_without_gaps` |
//! | 5 work is shared | `sharing::…`, `original::…`, `watching::viewers_of_one_stream_get_the_frames_that_its_publisher_gets` |
//! | 6 I420 all the way | `overlay::the_boxes_stand_where_the_message_says`, `overlay::none_draws_nothing_and_the_detections_still_come` (and the import table: no other room has RGB) |
//! | 7 what is bad costs one stream | `faults::…`, `cameras::a_camera_that_is_away_costs_only_itself_and_its_viewers_see_why` |
//! | 8 data flows one way | `video::a_pli_makes_the_next_frame_an_idr_and_no_other`, `video::many_plis_are_one_idr_in_half_a_second`, `faults::a_packet_lost_for_good_asks_the_publisher_for_a_keyframe` |
//!
//! What the way to a viewer carries: `bandwidth::…`.
//!
//! What is looked at, and what nobody may see: `budget::…`, `rules::…`, `saved::…`, `privacy::…`.
//!
//! How streams outlive publishers and cameras, and viewers nothing: `publishers::…`, `cameras::…`, `watching::…`.

#[path = "../support/client.rs"]
mod client;
#[path = "../support/fakes.rs"]
mod fakes;
#[path = "../support/fed.rs"]
mod fed;
#[path = "../support/plate.rs"]
mod plate;
#[path = "../support/relay.rs"]
#[allow(dead_code)] // whole links are another test's matter
mod relay;
#[path = "../support/server.rs"]
mod server;
#[path = "../support/squares.rs"]
mod squares;
#[path = "../support/watcher.rs"]
mod watcher;

mod bandwidth;
mod budget;
mod cameras;
mod channel;
mod faults;
mod leaving;
mod original;
mod outage;
mod overlay;
mod overload;
mod privacy;
mod publishers;
mod rules;
mod saved;
mod sharing;
mod video;
mod watching;
