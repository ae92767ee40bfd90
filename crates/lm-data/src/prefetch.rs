//! Runs an iterator ahead of its consumer, on threads of its own.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};

/// More threads than this only take longer to start.
const MOST_WORKERS: usize = 256;

/// The items of an iterator, computed in advance and given in order. Dropping it ends the threads; their panic is the
/// consumer's.
pub struct Prefetch<T> {
    /// For each item, in order, where it comes when it is ready.
    queue: Option<Receiver<Receiver<T>>>,
    threads: Vec<JoinHandle<()>>,
}

/// What the threads share: who takes the next item has queued its result before anybody takes another.
struct Source<I, T> {
    items: I,
    queue: SyncSender<Receiver<T>>,
}

impl<T: Send + 'static> Prefetch<T> {
    /// Starts to compute what `work` makes of the items, on `workers` threads: at least one, at most 256. The items
    /// themselves are asked for one after the other. At most `ahead` results, at least one, wait to be taken.
    pub fn new<J: Send + 'static>(
        items: impl Iterator<Item = J> + Send + 'static,
        work: impl Fn(J) -> T + Send + Sync + 'static,
        workers: usize,
        ahead: usize,
    ) -> std::io::Result<Self> {
        let (queue, results) = sync_channel(ahead.max(1));
        let source = Arc::new(Mutex::new(Source { items: items.fuse(), queue }));
        let work = Arc::new(work);
        let mut prefetch = Self { queue: Some(results), threads: Vec::new() };
        for _ in 0..workers.clamp(1, MOST_WORKERS) {
            let (source, work) = (Arc::clone(&source), Arc::clone(&work));
            let run = move || {
                while let Some((item, result)) = next(&source) {
                    // Nobody waits for it any more when the consumer is gone.
                    let _ = result.send(work(item));
                }
            };
            prefetch.threads.push(Builder::new().name("prefetch".into()).spawn(run)?);
        }
        Ok(prefetch)
    }

    fn join(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            if let Err(panic) = thread.join()
                && !std::thread::panicking()
            {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

/// The next item and where its result goes; none at the end, when the consumer is gone, or after another thread's panic.
fn next<J, T>(source: &Mutex<Source<impl Iterator<Item = J>, T>>) -> Option<(J, SyncSender<T>)> {
    let mut source = source.lock().ok()?;
    let item = source.items.next()?;
    let (sender, receiver) = sync_channel(1);
    source.queue.send(receiver).ok()?;
    Some((item, sender))
}

impl<T: Send + 'static> Iterator for Prefetch<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        let item = self.queue.as_ref()?.recv().ok().and_then(|result| result.recv().ok());
        if item.is_none() {
            self.join();
        }
        item
    }
}

impl<T> Drop for Prefetch<T> {
    fn drop(&mut self) {
        // A thread that waits to queue its result finds the receiver gone and ends.
        self.queue = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn gives_every_item_in_order_and_then_ends() {
        for workers in [0, 1, 2, 7, usize::MAX] {
            let mut items = Prefetch::new(0..1000, |i| 2 * i, workers, 3).unwrap();
            assert!(items.by_ref().eq((0..1000).map(|i| 2 * i)), "{workers}");
            assert_eq!(items.next(), None);
        }
    }

    /// Each item waits for two others to be worked on at the same time.
    #[test]
    fn works_on_as_many_threads_as_asked_for() {
        let barrier = Barrier::new(3);
        let work = move |_| {
            barrier.wait();
            std::thread::current().id()
        };
        let threads: HashSet<_> = Prefetch::new(0..3, work, 3, 9).unwrap().collect();
        assert_eq!(threads.len(), 3);
    }

    #[test]
    fn runs_only_so_far_ahead_and_stops_when_dropped() {
        let made = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&made);
        let count = move |item| {
            counter.fetch_add(1, Ordering::SeqCst);
            item
        };
        let mut items = Prefetch::new(0.., count, 1, 2).unwrap();
        assert_eq!(items.next(), Some(0));
        drop(items);
        assert!(
            made.load(Ordering::SeqCst) <= 5,
            "one taken, two waiting, one in hand, one more when the first was taken"
        );
    }

    #[test]
    #[should_panic(expected = "cause")]
    fn a_panic_of_the_iterator_reaches_the_consumer() {
        let items = Prefetch::new((0..3).map(|i| if i < 2 { i } else { panic!("cause") }), |i| i, 1, 1).unwrap();
        items.for_each(drop);
    }

    #[test]
    #[should_panic(expected = "cause")]
    fn a_panic_of_the_work_reaches_the_consumer() {
        let items = Prefetch::new(0.., |i| if i < 20 { i } else { panic!("cause") }, 4, 8).unwrap();
        items.for_each(drop);
    }
}
