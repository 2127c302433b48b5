//! What a stream had of memory goes back to the system when it ends, and finds its place when the next one comes.
//!
//! Codecs take some 20 MiB for each stream in many pieces, on threads that come and go. glibc gives each thread one of up to
//! eight arenas per core, and gives the system back only what is at an arena's end, so that a server whose sessions come and go
//! grows for hours until every arena has had its largest session, and what outlives a session keeps whole pages of each.

use std::sync::{Mutex, PoisonError};

/// Lets threads share as many arenas as there are cores, unless the environment says how many (`MALLOC_ARENA_MAX`, or
/// `glibc.malloc.arena_max` in `GLIBC_TUNABLES`). To be called before threads are started.
pub fn share_memory() {
    let tunables = std::env::var("GLIBC_TUNABLES").unwrap_or_default();
    if std::env::var_os("MALLOC_ARENA_MAX").is_some() || tunables.contains("arena_max") {
        return;
    }
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        // SAFETY: mallopt(3) takes two numbers, and sets one of the allocator's limits.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, i32::try_from(cores).unwrap_or(i32::MAX));
        }
    }
}

/// Gives the system back what no part of the process uses, wherever it lies. Takes some milliseconds, and an allocation beside it
/// may wait for as long: for the end of a stream.
pub(super) fn give_back() {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim(3) takes the number of bytes that stay at the end of the heap, may be called by any thread at any time,
    // and touches nothing that is allocated.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[cfg(test)]
mod tests {
    use super::*;

    /// Of the process, in bytes.
    fn resident() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }

    #[test]
    fn what_lies_below_something_that_is_kept_goes_back_too() {
        // Pieces below the size that the allocator asks the system for by itself, and one above them that stays.
        let pieces: Vec<Vec<u8>> = (0..640).map(|_| vec![1; 100_000]).collect();
        let kept = vec![1u8; 100_000];
        drop(pieces);
        let before = resident();
        give_back();
        let after = resident();
        // Other tests of the process may allocate beside this one.
        assert!(after + 40_000_000 < before, "{before} bytes before, {after} after");
        assert_eq!(kept.len(), 100_000);
    }
}
