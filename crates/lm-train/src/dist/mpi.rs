//! MPI, by the library that the program is linked with (Open MPI, MPICH and their like).

use std::cell::Cell;
use std::thread;
use std::time::{Duration, Instant};

use mpi::Threading;
use mpi::datatype::PartitionMut;
use mpi::environment::{self, Universe};
use mpi::request::{Request, Scope, scope};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Root};

/// A wait that is over soon is not worth giving the processor away; later it is asked this rarely.
const SOON: Duration = Duration::from_millis(20);
const REST: Duration = Duration::from_micros(50);
/// Values that travel at a time: as many again are taken for them twice.
const PIECE: usize = 4 << 20;

/// All processes that were started together.
pub struct Mpi {
    world: SimpleCommunicator,
    /// How long a wait may take.
    limit: Cell<Option<Duration>>,
    // Leaves MPI when it is dropped.
    universe: Universe,
}

impl Mpi {
    /// Joins the others; once in a process.
    pub fn open() -> Result<Self, String> {
        // Only one thread calls MPI, but it need not be the one that began.
        let (universe, level) = mpi::initialize_with_threading(Threading::Serialized)
            .ok_or("MPI was begun in this process already, which can be done once")?;
        if level < Threading::Serialized {
            return Err(format!("{} lets a program have no threads: use another MPI", library()));
        }
        Ok(Self { world: universe.world(), limit: Cell::default(), universe })
    }

    /// This process's number.
    pub fn rank(&self) -> usize {
        self.world.rank() as usize
    }

    /// How many processes there are.
    pub fn size(&self) -> usize {
        self.world.size() as usize
    }

    /// Name and version of the library.
    pub fn library(&self) -> String {
        library()
    }

    /// How long a wait may take.
    pub fn limit_waits(&self, limit: Option<Duration>) {
        self.limit.set(limit);
    }

    /// Ends all processes.
    pub fn abort(&self, code: u8) -> ! {
        self.universe.world().abort(code.into())
    }

    /// The bytes of every rank, in the order of ranks.
    pub fn gather(&self, own: &[u8]) -> Vec<Vec<u8>> {
        let mut lengths = vec![0i32; self.size()];
        let own_length = own.len() as i32;
        scope(|scope| self.wait(self.world.immediate_all_gather_into(scope, &own_length, &mut lengths[..])));
        let starts: Vec<i32> = lengths
            .iter()
            .scan(0, |end, length| {
                *end += length;
                Some(*end - length)
            })
            .collect();
        let mut all = vec![0u8; lengths.iter().map(|length| *length as usize).sum()];
        let mut parts = PartitionMut::new(&mut all[..], &lengths[..], &starts[..]);
        scope(|scope| self.wait(self.world.immediate_all_gather_varcount_into(scope, own, &mut parts)));
        let part = |(start, length): (&i32, &i32)| all[*start as usize..(*start + *length) as usize].to_vec();
        starts.iter().zip(&lengths).map(part).collect()
    }

    /// Gives all ranks the bytes of one of them.
    pub fn broadcast(&self, from: usize, bytes: &mut [u8]) {
        let root = self.world.process_at_rank(from as i32);
        for piece in bytes.chunks_mut(size_of::<f32>() * PIECE) {
            scope(|scope| self.wait(root.immediate_broadcast_into(scope, piece)));
        }
    }

    /// Adds up the values of all ranks in the order of ranks, whatever the library does with sums of its own: each rank adds
    /// up a share of every piece, and all get all shares.
    pub fn sum(&self, values: &mut [f32]) {
        let size = self.size();
        for piece in values.chunks_mut(PIECE) {
            let share = piece.len().div_ceil(size);
            let mut sent = vec![0.0f32; share * size];
            sent[..piece.len()].copy_from_slice(piece);
            let mut received = vec![0.0f32; share * size];
            scope(|scope| self.wait(self.world.immediate_all_to_all_into(scope, &sent[..], &mut received[..])));
            let (sum, others) = received.split_at_mut(share);
            for other in others.chunks(share) {
                sum.iter_mut().zip(other).for_each(|(sum, value)| *sum += value);
            }
            let sum = &received[..share];
            scope(|scope| self.wait(self.world.immediate_all_gather_into(scope, sum, &mut sent[..])));
            piece.copy_from_slice(&sent[..piece.len()]);
        }
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

fn library() -> String {
    let version = environment::library_version().unwrap_or_default();
    version.split(',').next().unwrap_or_default().trim_end_matches('\0').trim().to_owned()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Values that no sum in another order would give.
    fn values(rank: usize, len: usize) -> Vec<f32> {
        (0..len).map(|index| ((index + 1) as f32).sin() * [1.0, 1e8, -1e8, 0.3][rank]).collect()
    }

    fn sums_on_this_rank() {
        let mpi = Mpi::open().expect("started by mpirun");
        let size = mpi.size();
        for len in [0, 1, size - 1, size, 1000, PIECE + 1, 2 * PIECE + size + 1] {
            let mut sum = values(mpi.rank(), len);
            mpi.sum(&mut sum);
            let mut expected = values(0, len);
            for rank in 1..size {
                expected.iter_mut().zip(values(rank, len)).for_each(|(sum, value)| *sum += value);
            }
            assert!(sum.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()), "{len} values of {size} ranks");
        }
        for from in 0..size {
            let bytes = |rank: usize| (0..4 * PIECE + 3).map(|at| (at * (rank + 3)) as u8).collect::<Vec<_>>();
            let mut heard = bytes(mpi.rank());
            mpi.broadcast(from, &mut heard);
            assert!(heard == bytes(from), "rank {from}");
        }
        let own = vec![mpi.rank() as u8; 3 * mpi.rank()];
        let gathered = mpi.gather(&own);
        assert!((0..size).all(|rank| gathered[rank] == vec![rank as u8; 3 * rank]), "{gathered:?}");
    }

    /// Whether mpirun has started this process.
    fn is_rank() -> bool {
        std::env::var_os("OMPI_COMM_WORLD_SIZE").or(std::env::var_os("PMI_SIZE")).is_some()
    }

    /// Starts a test of this module again, as so many ranks; what they said.
    fn again(test: &str, ranks: &str) -> String {
        let mut command = Command::new("mpirun");
        for name in ["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "OMPI_MCA_rmaps_base_oversubscribe"] {
            command.env(name, "1");
        }
        command.args(["-n", ranks]).arg(std::env::current_exe().expect("this program"));
        let name = format!("dist::mpi::tests::{test}");
        let run = command.args(["--exact", &name, "--nocapture", "--include-ignored"]).output().expect("mpirun starts");
        let said = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success() && said.contains("1 passed"), "{said}");
        said
    }

    #[test]
    fn sums_are_taken_in_the_order_of_ranks() {
        if is_rank() {
            return sums_on_this_rank();
        }
        for ranks in ["2", "3", "4"] {
            again("sums_are_taken_in_the_order_of_ranks", ranks);
        }
    }

    /// A measurement: `scripts/ranks.sh`.
    #[test]
    #[ignore = "measures"]
    fn beside_the_sum_of_the_library() {
        if !is_rank() {
            return print!("{}", again("beside_the_sum_of_the_library", "2"));
        }
        let mpi = Mpi::open().expect("started by mpirun");
        let (own, mut values, mut sums) =
            (vec![1.0f32; 100_000_000], vec![1.0f32; 100_000_000], vec![0.0f32; 100_000_000]);
        for _ in 0..3 {
            let began = Instant::now();
            mpi.sum(&mut values);
            let ours = began.elapsed();
            let began = Instant::now();
            mpi.world.all_reduce_into(&own[..], &mut sums[..], mpi::collective::SystemOperation::sum());
            if mpi.rank() == 0 {
                let library = began.elapsed().as_secs_f64();
                println!("100 million values: {:.2} s, MPI_Allreduce {library:.2} s", ours.as_secs_f64());
            }
        }
    }
}
