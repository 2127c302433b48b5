//! What the video thread shows while no pictures come.

use std::sync::Arc;
use std::time::Instant;

use super::{Chosen, Video};
use crate::media::{Frame, FrameLedger, Mark};
use crate::pipeline::ingress::Name;
use crate::pipeline::silence::Silence;
use crate::sink::Bitstream;

impl Video {
    pub(super) fn take_signal(&mut self, lost: Option<String>) {
        let Some(text) = lost else {
            // Until a picture comes, the last one is as old as it was.
            return;
        };
        self.awaited = None;
        self.shared.no_signal.store(Some(Arc::new(text.clone())));
        let since = self.shared.last.load().as_ref().map(|last| last.name.arrived);
        match &mut self.silence {
            Some(silence) => silence.reword(text),
            none => *none = Some(Silence::new(text, since.unwrap_or_else(Instant::now))),
        }
        self.show_silence();
    }

    pub(super) fn end_silence(&mut self) {
        if self.silence.take().is_some() {
            self.shared.no_signal.store(None);
        }
        if self.shared.unsupported.borrow().is_some() {
            self.shared.unsupported.send_replace(None);
        }
    }

    /// Sends the last picture with the banner to whoever watches, if it is time or somebody has no picture yet.
    pub(super) fn show_silence(&mut self) {
        let demand = self.shared.fanout.demand();
        let now = Instant::now();
        let annotated = demand.annotated > 0;
        let plain = demand.plain > 0;
        let Some(silence) = &mut self.silence else { return };
        let owes = |bitstream| self.encodes.has_to_begin(bitstream, &self.shared.fanout, now);
        let somebody_waits = owes(Bitstream::Annotated) || owes(Bitstream::Plain);
        if !(annotated || plain) || (now < silence.due() && !somebody_waits) {
            return;
        }
        let last = self.shared.last.load_full();
        let base = last.map_or_else(Silence::darkness, |last| {
            let mut picture = Arc::clone(&last.picture);
            self.shared.hide(&mut picture, &self.lane.load(), &mut self.hider, last.name.arrived, &[]);
            Arc::unwrap_or_clone(picture)
        });
        let picture = Arc::new(silence.draw(base, now));
        let Name { id, rtp_timestamp, captured, arrived, .. } = self.shared.ingress.name_of_our_own(now);
        self.last_id = Some(id);
        let mut ledger = FrameLedger::arrived(arrived, arrived);
        ledger.mark_at(Mark::Dequeued, now);
        ledger.mark_at(Mark::Decoded, now);
        ledger.mark_at(Mark::RenderStarted, now);
        ledger.mark(Mark::Drawn);
        let source = (picture.width(), picture.height());
        let frame = Frame { id, rtp_timestamp, captured, picture, ledger };
        for bitstream in [Bitstream::Plain, Bitstream::Annotated] {
            for tier in self.encodes.in_use(bitstream, &self.shared.fanout, now).into_iter().flatten() {
                let Some(rendition) = self.encodes.get(bitstream, tier) else { continue };
                let picture = rendition.fit(Arc::clone(&frame.picture));
                self.send((bitstream, tier), Frame { picture, ..frame.clone() }, source, Chosen::default());
            }
        }
    }
}
