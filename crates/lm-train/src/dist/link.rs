//! What carries bytes between the processes of a run, and what is made of that: messages of any length, and sums.

use std::time::Duration;

use burn::tensor::{Device, Tensor};

/// Values that travel at a time: as many again are taken for them twice.
const PIECE: usize = 4 << 20;

/// A way between all processes of a run. All ranks call the same functions in the same order. A process that finds the
/// others gone, or waits too long for them, ends itself and them with one line.
pub trait Link: Send {
    /// This process's number.
    fn rank(&self) -> usize;

    /// How many processes there are.
    fn size(&self) -> usize;

    /// How long a wait may take from now on.
    fn limit_waits(&self, limit: Option<Duration>);

    /// Gives each rank its share of `sent`, and gets one from each, in the order of ranks: all are equally long.
    fn all_to_all(&self, sent: &[u8], received: &mut [u8]);

    /// Puts what each rank gives, all equally long, into `all` in the order of ranks.
    fn all_gather(&self, own: &[u8], all: &mut [u8]);

    /// Gives all ranks the bytes of one of them.
    fn broadcast(&self, from: usize, bytes: &mut [u8]);

    /// Whether tensors on a device can be added up there.
    fn sums_tensors(&self, _device: &Device) -> bool {
        false
    }

    /// The sum of a flat tensor over all ranks, in an order of its own, where [`Self::sums_tensors`] says that it can. It is
    /// there after [`Self::finish_sums`].
    fn sum_tensor(&self, tensor: Tensor<1>) -> Tensor<1> {
        tensor
    }

    /// Has whatever looks at the sums of tensors later wait for them.
    fn finish_sums(&self) {}

    /// Ends all processes, as far as this one can: the others follow when they hear of it.
    fn abort(&self, code: u8) -> !;
}

/// The bytes of every rank, in the order of ranks.
pub fn gather(link: &dyn Link, own: &[u8]) -> Vec<Vec<u8>> {
    let mut lengths = vec![0u64; link.size()];
    link.all_gather(&(own.len() as u64).to_ne_bytes(), bytemuck::cast_slice_mut(&mut lengths));
    let longest = lengths.iter().max().map_or(0, |longest| *longest as usize);
    if longest == 0 {
        return vec![Vec::new(); link.size()];
    }
    let mut padded = own.to_vec();
    padded.resize(longest, 0);
    let mut all = vec![0; longest * link.size()];
    link.all_gather(&padded, &mut all);
    all.chunks(longest).zip(lengths).map(|(bytes, length)| bytes[..length as usize].to_vec()).collect()
}

/// Adds up the values of all ranks in the order of ranks, whatever the library does with sums of its own: each rank adds up
/// a share of every piece, and all get all shares.
pub fn sum(link: &dyn Link, values: &mut [f32]) {
    let size = link.size();
    for piece in values.chunks_mut(PIECE) {
        let share = piece.len().div_ceil(size);
        let mut sent = vec![0.0f32; share * size];
        sent[..piece.len()].copy_from_slice(piece);
        let mut received = vec![0.0f32; share * size];
        link.all_to_all(bytemuck::cast_slice(&sent), bytemuck::cast_slice_mut(&mut received));
        let (sum, others) = received.split_at_mut(share);
        for other in others.chunks(share) {
            sum.iter_mut().zip(other).for_each(|(sum, value)| *sum += value);
        }
        link.all_gather(bytemuck::cast_slice(sum), bytemuck::cast_slice_mut(&mut sent));
        piece.copy_from_slice(&sent[..piece.len()]);
    }
}

/// Gives all ranks the bytes of one of them, in pieces.
pub fn broadcast(link: &dyn Link, from: usize, bytes: &mut [u8]) {
    bytes.chunks_mut(size_of::<f32>() * PIECE).for_each(|piece| link.broadcast(from, piece));
}

#[cfg(all(test, any(feature = "mpi", feature = "gloo", feature = "nccl")))]
pub(super) mod tests {
    use std::process::{Child, Command, Output, Stdio};

    use super::*;
    use crate::dist::launched::Launched;
    use crate::dist::reach::open;

    /// Values that no sum in another order would give.
    fn values(rank: usize, len: usize) -> Vec<f32> {
        (0..len).map(|index| ((index + 1) as f32).sin() * [1.0, 1e8, -1e8, 0.3][rank]).collect()
    }

    /// Who started this process of a test.
    pub fn launched() -> Option<Launched> {
        Launched::found(&|name| std::env::var(name).ok())
    }

    fn sums_on_this_rank(launched: &Launched) {
        let link = &*open(launched).expect("the others");
        let size = link.size();
        for len in [0, 1, size - 1, size, 1000, PIECE + 1, 2 * PIECE + size + 1] {
            let mut total = values(link.rank(), len);
            sum(link, &mut total);
            let mut expected = values(0, len);
            for rank in 1..size {
                expected.iter_mut().zip(values(rank, len)).for_each(|(sum, value)| *sum += value);
            }
            let same = total.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "{len} values of {size} ranks");
        }
        for from in 0..size {
            let bytes = |rank: usize| (0..4 * PIECE + 3).map(|at| (at * (rank + 3)) as u8).collect::<Vec<_>>();
            let mut heard = bytes(link.rank());
            broadcast(link, from, &mut heard);
            assert!(heard == bytes(from), "rank {from}");
        }
        let own = vec![link.rank() as u8; 3 * link.rank()];
        let gathered = gather(link, &own);
        assert!((0..size).all(|rank| gathered[rank] == vec![rank as u8; 3 * rank]), "{gathered:?}");
        assert!(gather(link, &[]).iter().all(Vec::is_empty));
    }

    /// Starts a test of `dist` again, as so many ranks; what they said.
    pub fn again(test: &str, ranks: usize) -> String {
        let name = format!("dist::{test}");
        let program = std::env::current_exe().expect("this program");
        let arguments = ["--exact", &name, "--nocapture", "--include-ignored"];
        let said = |output: Output| {
            let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && said.contains("1 passed"), "{said}");
            said
        };
        if cfg!(feature = "mpi") {
            let mut command = Command::new("mpirun");
            for name in
                ["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "OMPI_MCA_rmaps_base_oversubscribe"]
            {
                command.env(name, "1");
            }
            command.args(["-n", &ranks.to_string()]).arg(program).args(arguments);
            return said(command.output().expect("mpirun starts"));
        }
        // As torchrun starts them.
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.expect("a free port").port().to_string();
        let start = |rank: usize| -> Child {
            let mut command = Command::new(&program);
            command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
            command.env("RANK", rank.to_string()).env("WORLD_SIZE", ranks.to_string());
            command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", &port);
            command.spawn().expect("it starts")
        };
        let children: Vec<_> = (0..ranks).map(start).collect();
        children.into_iter().map(|child| said(child.wait_with_output().expect("an end"))).collect()
    }

    #[test]
    fn sums_are_taken_in_the_order_of_ranks() {
        match launched() {
            Some(launched) => sums_on_this_rank(&launched),
            None => [2, 3, 4].into_iter().for_each(|ranks| {
                again("link::tests::sums_are_taken_in_the_order_of_ranks", ranks);
            }),
        }
    }
}
