//! Threads that stay awake while many small operations follow each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long a worker that has nothing to do looks for work before it sleeps: longer than what one thread does alone between
/// two operations, shorter than anybody would notice. Nor could it look for ever: it may have come to look while it waited for
/// a part that `work` waits for.
const PATIENCE: Duration = Duration::from_millis(2);

/// Runs `work` on a worker, and keeps the others looking for parts of its operations until it ends.
pub fn on_worker<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| {
        let ends = Ends(Arc::default());
        let (own, ended) = (rayon::current_thread_index(), ends.0.clone());
        rayon::spawn_broadcast(move |worker| {
            // Met where `work` itself waits for a part of an operation.
            if Some(worker.index()) != own {
                help_until(&ended);
            }
        });
        work()
    })
}

/// Says so when it is dropped.
struct Ends(Arc<AtomicBool>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Takes parts of operations as soon as there are some.
fn help_until(ended: &AtomicBool) {
    let mut idle_since = None;
    while !ended.load(Ordering::Relaxed) {
        if rayon::yield_now() == Some(rayon::Yield::Executed) {
            idle_since = None;
        } else if idle_since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
            return;
        } else {
            // To whoever else needs the core.
            thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::tests::on_threads;

    #[test]
    fn work_runs_on_a_worker_and_the_others_go_on_after_it() {
        for threads in [1, 2, 5] {
            on_threads(threads, || {
                for _ in 0..20 {
                    let (sum, index) = on_worker(|| {
                        let sum = (0..100).map(|_| rayon::join(|| 1, || 1)).map(|(a, b)| a + b).sum::<i32>();
                        (sum, rayon::current_thread_index())
                    });
                    assert_eq!(sum, 200);
                    assert!(index.is_some());
                }
                // Each worker has left, whoever ran the work.
                assert_eq!(rayon::broadcast(|worker| worker.index()), (0..threads).collect::<Vec<_>>());
            });
        }
    }

    #[test]
    fn work_inside_work_ends() {
        let sum = on_threads(3, || {
            on_worker(|| {
                let inner = || on_worker(|| rayon::join(|| 1, || 2));
                let (a, b) = rayon::join(inner, inner);
                a.0 + a.1 + b.0 + b.1
            })
        });
        assert_eq!(sum, 6);
    }

    #[test]
    fn a_panic_lets_the_others_go() {
        on_threads(3, || {
            let failed = std::panic::catch_unwind(|| on_worker(|| panic!("as it should")));
            assert!(failed.is_err());
            assert_eq!(rayon::broadcast(|worker| worker.index()).len(), 3);
        });
    }
}
