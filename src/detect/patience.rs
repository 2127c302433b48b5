//! Loading under a deadline: a file on a mount that is dead, a driver that hangs, a graph without end.
//!
//! Nothing in this process can end a thread that hangs in the system or in a runtime. It is left to itself: nobody waits for it, and what it
//! still brings is dropped on it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use super::pool::{give_way, said};
use super::{DetectError, Stopper};

/// Lets `load` run on a thread that stands back behind the video's, and waits for it no longer than `limit`.
///
/// # Errors
/// Those of `load`; [`DetectError::Overdue`] when it takes longer; [`DetectError::Unusable`] when it panics;
/// [`DetectError::Thread`] when the system gives no thread.
pub(super) fn within<T: Send + 'static>(
    limit: Duration,
    model: &str,
    load: impl FnOnce() -> Result<T, DetectError> + Send + 'static,
) -> Result<T, DetectError> {
    let (done, result) = sync_channel(1);
    let thread = thread::Builder::new().name("detect-load".to_owned()).spawn(move || {
        give_way();
        let loaded = catch_unwind(AssertUnwindSafe(load)).map_err(|panic| said(&*panic).to_owned());
        // Whoever waited may have given up.
        let _ = done.send(loaded);
    });
    thread.map_err(|error| DetectError::Thread { workers: 1, reason: error.to_string() })?;
    let panicked =
        |said: &str| DetectError::Unusable { model: model.to_owned(), reason: format!("the loading panicked: {said}") };
    match result.recv_timeout(limit) {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => Err(panicked(&panic)),
        Err(RecvTimeoutError::Timeout) => Err(DetectError::Overdue { model: model.to_owned(), limit }),
        Err(RecvTimeoutError::Disconnected) => Err(panicked("without a word")),
    }
}

/// Runs `look`, and ends it by `stopper` when it takes longer than `limit`; whether it did stands beside the result.
pub(super) fn ended_after<T>(limit: Duration, stopper: Stopper, look: impl FnOnce() -> T) -> (T, bool) {
    let (done, over) = sync_channel::<()>(0);
    let watch = thread::Builder::new().name("detect-load-end".to_owned()).spawn(move || {
        let late = over.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
        if late {
            stopper();
        }
        late
    });
    let result = look();
    drop(done);
    // Without a thread nobody ends it: whoever waits gives up all the same.
    (result, watch.is_ok_and(|watch| watch.join().unwrap_or(false)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::mpsc::channel;

    const SOON: Duration = Duration::from_millis(50);
    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn what_is_loaded_in_time_is_handed_on_and_so_is_an_error() {
        assert_eq!(within(PATIENCE, "x", || Ok(7)).unwrap(), 7);
        let error = within::<()>(PATIENCE, "x", || Err(DetectError::Frame("bad".into()))).unwrap_err();
        assert!(matches!(error, DetectError::Frame(_)), "{error}");
    }

    /// Says when it is dropped.
    struct Late(std::sync::mpsc::Sender<()>);
    impl Drop for Late {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }

    #[test]
    fn a_loading_that_hangs_is_given_up_and_its_late_result_dropped_there() {
        let (go, wait) = channel::<()>();
        let (dropped_in, dropped) = channel();
        let error = within(SOON, "hung", move || {
            let _ = wait.recv();
            Ok(Late(dropped_in))
        })
        .map(drop)
        .unwrap_err();
        assert!(
            matches!(&error, DetectError::Overdue { model, limit } if model == "hung" && *limit == SOON),
            "{error}"
        );
        assert!(error.to_string().contains("load_deadline_ms"), "{error}");
        drop(go);
        dropped.recv_timeout(PATIENCE).unwrap();
    }

    #[test]
    fn a_panic_while_loading_is_an_error_with_its_words() {
        let error = within::<()>(PATIENCE, "x", || panic!("told to")).unwrap_err().to_string();
        assert!(error.contains("panicked: told to"), "{error}");
    }

    #[test]
    fn a_look_that_takes_too_long_is_ended_and_one_in_time_is_not() {
        let (stop, stopped) = channel::<()>();
        let stopper: Stopper = Arc::new(move || {
            let _ = stop.send(());
        });
        let (result, late) = ended_after(SOON, Arc::clone(&stopper), || stopped.recv_timeout(PATIENCE));
        assert_eq!((result, late), (Ok(()), true));
        assert_eq!(ended_after(PATIENCE, stopper, || 1), (1, false));
        assert!(stopped.try_recv().is_err());
    }
}
