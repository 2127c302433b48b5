//! How a stream is doing, put together from what its parts count.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Stream;
use crate::detect::SamplingCounts;
use crate::encode;
use crate::pipeline::overload::relief;
use crate::pipeline::status::{GivesWay, PrivacyStatus, RenditionStatus, SamplingStatus, StageStatus, StreamStatus};
use crate::pipeline::sub_stream::SubStream;
use crate::pipeline::video::lock;
use crate::sink::Bitstream;

/// An encode that made no picture for this long is watched by nobody.
const LATELY: Duration = Duration::from_secs(2);

impl Stream {
    /// What its publisher should send at most, in bits a second, where the machine encodes its pictures smaller than they come.
    /// To be asked now and then: the share is that of the picture before anything gave way, as the publisher may answer with a
    /// smaller one.
    pub(in crate::pipeline) fn publisher_limit(&self, encode: &encode::Config) -> Option<u32> {
        let quarters = relief(self.shared.step.load(Ordering::Relaxed)).quarters;
        if quarters >= 4 {
            let last = self.shared.last.load_full()?;
            let whole = encode.bitrate(last.picture.width(), last.picture.height());
            self.shared.whole_bps.store(whole, Ordering::Relaxed);
            return None;
        }
        // A browser's encoder needs about as much as ours, and some room to find that out.
        let whole = self.shared.whole_bps.load(Ordering::Relaxed);
        Some(whole / 2 * 3 / 4 * quarters).filter(|limit| *limit > 0)
    }

    /// How it is doing.
    #[must_use]
    pub fn status(&self) -> StreamStatus {
        let seen = self.shared.metrics.snapshot();
        let size = self.shared.last.load().as_ref().map(|last| (last.picture.width(), last.picture.height()));
        let sub = lock(&self.sub).clone();
        let skipped_there = sub.as_ref().map_or(0, |sub| sub.lane().counters().skipped);
        let lane = self.lane.load();
        let mut counts = lane.sampled();
        if let Some(sub) = &sub {
            counts.add(&sub.lane().sampled());
        }
        let mut regions = lane.region_counts();
        for (name, count) in sub.iter().flat_map(|sub| sub.lane().region_counts()) {
            regions.entry(name).and_modify(|known| known.add(&count)).or_insert(count);
        }
        let step = self.shared.step.load(Ordering::Relaxed);
        StreamStatus {
            name: self.shared.name.to_string(),
            width: size.map(|size| size.0),
            height: size.map(|size| size.1),
            uptime_s: self.started.elapsed().as_secs_f64(),
            viewers: self.shared.fanout.viewers(),
            fps: seen.fps,
            input_fps: seen.input_fps,
            detection_fps: seen.detection_fps,
            frames_in: seen.frames_in,
            frames_decoded: seen.decoded,
            frames_out: seen.processed,
            encodes: seen.encodes,
            renditions: self.renditions(),
            detections: seen.detections,
            detector_skipped: self.skipped.load(Ordering::Relaxed) + lane.counters().skipped + skipped_there,
            regions,
            privacy: self.privacy_status(),
            cascade: self.stages(&counts, sub.as_deref()),
            sampling: SamplingStatus { sampling: lane.sampling(), counts },
            dropped: seen.dropped.into_iter().map(|(reason, count)| (reason.to_owned(), count)).collect(),
            gives_way: GivesWay { step, what: relief(step).gives },
            bridged_viewers: self.shared.fanout.demand().plain,
            video: self.shared.ingress.video(),
            no_signal: self.shared.no_signal.load().as_deref().cloned(),
            clock: self.shared.ingress.skew(),
            config: self.config(),
        }
    }

    /// The encodes that were of use lately.
    fn renditions(&self) -> Vec<RenditionStatus> {
        let renditions = *lock(&self.shared.renditions);
        let kinds = renditions.into_iter().zip([Bitstream::Annotated, Bitstream::Plain]);
        let all = kinds.flat_map(|(tiers, bitstream)| tiers.into_iter().flatten().map(move |one| (bitstream, one)));
        let lately = all.filter(|(_, rendition)| rendition.used.elapsed() < LATELY);
        let counted = lately.map(|(bitstream, rendition)| {
            let viewers = self.shared.fanout.watched(bitstream, rendition.tier);
            RenditionStatus { viewers, ..rendition }
        });
        counted.filter(|rendition| rendition.viewers > 0).collect()
    }

    /// The stages of its cascade.
    fn stages(&self, counts: &SamplingCounts, sub: Option<&SubStream>) -> Vec<StageStatus> {
        let Some(cascade) = self.shared.rules.load().cascade() else { return Vec::new() };
        let mut passes = self.lane.load().passes();
        let there = sub.map(|sub| sub.lane().passes()).unwrap_or_default();
        passes.resize(passes.len().max(there.len()), (0, 0));
        for (here, there) in passes.iter_mut().zip(there) {
            *here = (here.0 + there.0, here.1 + there.1);
        }
        let first = cascade.sampling.map(|sampling| StageStatus {
            stage: sampling.mode().to_owned(),
            looked: counts.offered,
            passed: counts.sampled,
        });
        let passes = passes.into_iter().chain(std::iter::repeat((0, 0)));
        let models = cascade.models().zip(passes).map(|(model, (looked, passed))| StageStatus {
            stage: model.to_owned(),
            looked,
            passed,
        });
        first.into_iter().chain(models).collect()
    }

    fn privacy_status(&self) -> Option<PrivacyStatus> {
        let on = self.shared.privacy.load().is_on();
        let why = self.shared.all_hidden.load().as_deref().copied();
        on.then(|| PrivacyStatus { hides: if why.is_some() { "all" } else { "parts" }, why })
    }
}
