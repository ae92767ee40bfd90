//! MPI, by the library that the program is linked with (Open MPI, MPICH and their like).

use std::cell::Cell;
use std::thread;
use std::time::{Duration, Instant};

#[cfg(feature = "tch")]
use burn::tensor::{Device, Tensor};
use mpi::Threading;
use mpi::environment::{self, Universe};
use mpi::request::{Request, Scope, scope};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Root};
#[cfg(feature = "tch")]
use mpi::traits::{Destination, Source};

#[cfg(feature = "tch")]
use super::cuda_aware;
use super::launched::Launched;
#[cfg(feature = "tch")]
use super::libtorch;
use super::link::Link;

/// A wait that is over soon is not worth giving the processor away; later it is asked this rarely, since it may go on beside
/// the backward pass.
const SOON: Duration = Duration::from_millis(2);
const REST: Duration = Duration::from_micros(50);

/// All processes that were started together.
pub struct Mpi {
    world: SimpleCommunicator,
    /// How long a wait may take.
    limit: Cell<Option<Duration>>,
    // Leaves MPI when it is dropped.
    universe: Universe,
}

// SAFETY: MPI was begun so that every thread may call it while no other does (`MPI_THREAD_SERIALIZED`), and `Mpi` is not
// `Sync`: who calls it has it alone. It is dropped, which leaves MPI, by the thread that has `World`, the main thread.
unsafe impl Send for Mpi {}

impl Mpi {
    /// Joins the others; once in a process.
    ///
    /// # Errors
    /// If the library finds others than the launcher has started.
    pub fn open(launched: &Launched) -> Result<Self, String> {
        // One thread at a time calls MPI, but it need not be the one that began.
        let (universe, level) = mpi::initialize_with_threading(Threading::Serialized)
            .ok_or("MPI was begun in this process already, which can be done once")?;
        if level < Threading::Serialized {
            return Err(format!("{} lets a program have no threads: use another MPI", library()));
        }
        let mpi = Self { world: universe.world(), limit: Cell::default(), universe };
        if mpi.size() != launched.size {
            return Err(format!(
                "{} started {} processes, but the MPI library of this program, {}, sees {}: start them by that library's own mpirun",
                launched.by,
                launched.size,
                library(),
                mpi.size()
            ));
        }
        Ok(mpi)
    }

    /// Gives every other rank its part of `sent`, and takes one from each. Not by a collective operation: Open MPI's take no
    /// addresses on GPUs where they do not block.
    #[cfg(feature = "tch")]
    fn trade<B: mpi::datatype::Buffer + mpi::datatype::BufferMut>(&self, sent: &[B], received: &mut [B]) {
        let others = |rank: &usize| *rank != self.rank();
        scope(|scope| {
            let process = |rank: usize| self.world.process_at_rank(rank as i32);
            let parts = received.iter_mut().enumerate().filter(|(rank, _)| others(rank));
            let taken: Vec<_> = parts.map(|(rank, part)| process(rank).immediate_receive_into(scope, part)).collect();
            let parts = sent.iter().enumerate().filter(|(rank, _)| others(rank));
            let given: Vec<_> = parts.map(|(rank, part)| process(rank).immediate_send(scope, part)).collect();
            taken.into_iter().for_each(|request| self.wait(request));
            given.into_iter().for_each(|request| self.wait(request));
        });
    }

    /// Waits until all ranks have done their part, which may be long: then without taking the processor from who works.
    fn wait<'a, D: ?Sized, S: Scope<'a>>(&self, mut request: Request<'a, D, S>) {
        let began = Instant::now();
        while let Err(unfinished) = request.test() {
            request = unfinished;
            let waited = began.elapsed();
            if self.limit.get().is_some_and(|limit| waited > limit) {
                tracing::error!(
                    "rank {} has waited {} s for the others (--ddp_timeout): one is cut off or hangs; the job ends here",
                    self.rank(),
                    waited.as_secs()
                );
                self.abort(1);
            }
            if waited < SOON { thread::yield_now() } else { thread::sleep(REST) }
        }
    }
}

impl Link for Mpi {
    fn rank(&self) -> usize {
        self.world.rank() as usize
    }

    fn size(&self) -> usize {
        self.world.size() as usize
    }

    fn limit_waits(&self, limit: Option<Duration>) {
        self.limit.set(limit);
    }

    fn all_to_all(&self, sent: &[u8], received: &mut [u8]) {
        scope(|scope| self.wait(self.world.immediate_all_to_all_into(scope, sent, received)));
    }

    fn all_gather(&self, own: &[u8], all: &mut [u8]) {
        scope(|scope| self.wait(self.world.immediate_all_gather_into(scope, own, all)));
    }

    fn broadcast(&self, from: usize, bytes: &mut [u8]) {
        let root = self.world.process_at_rank(from as i32);
        scope(|scope| self.wait(root.immediate_broadcast_into(scope, bytes)));
    }

    #[cfg(feature = "tch")]
    fn sums_tensors(&self, device: &Device) -> bool {
        cuda_aware::is_supported() && libtorch::is_cuda(device)
    }

    #[cfg(feature = "tch")]
    fn sum_tensor(&self, tensor: Tensor<1>) -> Tensor<1> {
        libtorch::map(tensor, |tensor| {
            cuda_aware::sum(&tensor, self.rank(), self.size(), |sent, received| self.trade(sent, received))
        })
    }

    fn abort(&self, code: u8) -> ! {
        self.universe.world().abort(code.into())
    }
}

fn library() -> String {
    let version = environment::library_version().unwrap_or_default();
    version.split(',').next().unwrap_or_default().trim_end_matches('\0').trim().to_owned()
}

#[cfg(test)]
mod tests {
    use mpi::collective::SystemOperation;

    use super::*;
    use crate::dist::link::{self, tests};

    /// On the processor, where every MPI takes the addresses.
    #[cfg(feature = "tch")]
    // burn-tch is marked deprecated in 0.22, the last line that has it.
    #[allow(deprecated)]
    #[test]
    fn sums_of_tensors_are_taken_in_the_order_of_ranks() {
        let Some(launched) = tests::launched() else {
            return [2, 3, 4].into_iter().for_each(|ranks| {
                tests::again("mpi::tests::sums_of_tensors_are_taken_in_the_order_of_ranks", ranks);
            });
        };
        let mpi = Mpi::open(&launched).expect("started by mpirun");
        for len in [1, 2, 5, 1000, 100_003] {
            let scale = [1.0, 1e8, -1e8, 0.3][mpi.rank()];
            let mut values: Vec<f32> = (0..len).map(|index| ((index + 1) as f32).sin() * scale).collect();
            let sum = mpi.sum_tensor(Tensor::from_floats(&values[..], &Device::libtorch())).into_data();
            link::sum(&mpi, &mut values);
            let same = sum.iter::<f32>().zip(&values).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same && sum.num_elements() == len, "{len} values");
        }
    }

    /// A measurement, of the number of values in VALUES: `scripts/ranks.sh`.
    #[test]
    #[ignore = "measures"]
    fn beside_the_sum_of_the_library() {
        let Some(launched) = tests::launched() else {
            return print!("{}", tests::again("mpi::tests::beside_the_sum_of_the_library", 2));
        };
        let mpi = Mpi::open(&launched).expect("started by mpirun");
        let len = std::env::var("VALUES").ok().and_then(|values| values.parse().ok()).unwrap_or(100_000_000);
        let (own, mut values, mut sums) = (vec![1.0f32; len], vec![1.0f32; len], vec![0.0f32; len]);
        for _ in 0..5 {
            let began = Instant::now();
            link::sum(&mpi, &mut values);
            let ours = began.elapsed().as_secs_f64();
            let began = Instant::now();
            mpi.world.all_reduce_into(&own[..], &mut sums[..], SystemOperation::sum());
            if mpi.rank() == 0 {
                let library = began.elapsed().as_secs_f64();
                println!("{len} values: {ours:.3} s, MPI_Allreduce {library:.3} s");
            }
        }
    }
}
