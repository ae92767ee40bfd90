//! Runs an iterator ahead of its consumer, on a thread of its own.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Builder, JoinHandle};

/// The items of an iterator, computed in advance. Dropping it ends the thread; its panic is the consumer's.
pub struct Prefetch<T> {
    items: Option<Receiver<T>>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Prefetch<T> {
    /// Starts to compute; at most `ahead` items (at least one) wait to be taken.
    pub fn new(items: impl Iterator<Item = T> + Send + 'static, ahead: usize) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(ahead.max(1));
        let thread = Builder::new().name("prefetch".into()).spawn(move || {
            for item in items {
                if sender.send(item).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { items: Some(receiver), thread: Some(thread) })
    }

    fn join(&mut self) {
        self.items = None;
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

impl<T: Send + 'static> Iterator for Prefetch<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        let item = self.items.as_ref()?.recv().ok();
        if item.is_none() {
            self.join();
        }
        item
    }
}

impl<T> Drop for Prefetch<T> {
    fn drop(&mut self) {
        // A thread that waits to send finds the receiver gone and ends.
        self.items = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn gives_every_item_in_order_and_then_ends() {
        let mut items = Prefetch::new(0..100, 3).unwrap();
        assert!(items.by_ref().eq(0..100));
        assert_eq!(items.next(), None);
    }

    #[test]
    fn runs_only_so_far_ahead_and_stops_when_dropped() {
        let made = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&made);
        let mut items = Prefetch::new(
            (0..).inspect(move |_| {
                counter.fetch_add(1, Ordering::SeqCst);
            }),
            2,
        )
        .unwrap();
        assert_eq!(items.next(), Some(0));
        drop(items);
        assert!(
            made.load(Ordering::SeqCst) <= 5,
            "one taken, two waiting, one in hand, one more when the first was taken"
        );
    }

    #[test]
    #[should_panic(expected = "cause")]
    fn a_panic_reaches_the_consumer() {
        let items = Prefetch::new((0..3).map(|i| if i < 2 { i } else { panic!("cause") }), 1).unwrap();
        items.for_each(drop);
    }
}
