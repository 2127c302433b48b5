//! The threads that a frame passes are woken often and work shortly: where the system lets them, they say so.

#[cfg(target_os = "linux")]
mod linux {
    use std::io;

    /// The share of a core's time that is asked for at once. The scheduler (EEVDF, Linux 6.12 and newer) runs a woken thread
    /// with a shorter slice before one that computes with a longer one; over time both get the same.
    const SLICE_NS: u64 = 100_000;

    /// How far ahead of the others, where the system allows it (a service with `CAP_SYS_NICE`, or `LimitNICE`).
    const NICE: i32 = -5;

    /// Asks for short slices and, if it may be had, for a higher priority.
    pub(super) fn stand_ahead() {
        // The priority first: it is refused to most, and then the slice alone is asked for.
        let priority = set(NICE).or_else(|_| set(0));
        if let Err(error) = priority {
            tracing::trace!(%error, "this thread keeps the scheduler's defaults");
        }
    }

    fn set(nice: i32) -> io::Result<()> {
        let attributes = libc::sched_attr {
            size: u32::try_from(size_of::<libc::sched_attr>()).unwrap_or(u32::MAX),
            sched_policy: 0, // SCHED_OTHER
            sched_flags: 0,
            sched_nice: nice,
            sched_priority: 0,
            sched_runtime: SLICE_NS,
            sched_deadline: 0,
            sched_period: 0,
        };
        // SAFETY: sched_setattr(2) has no wrapper. It reads `size` bytes at the pointer, which are the struct's own, and 0 is
        // the calling thread.
        let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// Puts the calling thread before those that compute, as far as the system lets it: called once by each thread of the
/// network and each video thread. Where nothing can be had, nothing happens.
pub fn stand_ahead() {
    #[cfg(target_os = "linux")]
    linux::stand_ahead();
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::thread;

    use super::*;

    /// The priority of the calling thread: the 19th field of proc(5)'s `stat`, the 17th behind the name.
    fn nice() -> i32 {
        let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
        let (_, rest) = stat.rsplit_once(") ").unwrap();
        rest.split(' ').nth(16).unwrap().parse().unwrap()
    }

    #[test]
    fn a_thread_stands_ahead_as_far_as_the_system_lets_it_and_no_other_thread_does() {
        let before = nice();
        let after = thread::spawn(|| {
            stand_ahead();
            nice()
        });
        assert!([-5, 0].contains(&after.join().unwrap()));
        assert_eq!(nice(), before);
    }
}
