//! The processes of a run: `mpirun -n 4 run_mlm …` starts four of them, on one machine or on many, which train one model
//! together. What they say to each other goes by MPI (feature `mpi`), or by the process groups of libtorch (features `gloo`
//! and `nccl`); a process alone, as always without these features, costs nothing here.
//!
//! ```text
//! launched  who started the process, by its environment
//! link      what carries bytes between processes, and the sums and messages that are made of it
//! mpi       MPI as such a link; cuda_aware: sums where the GPUs are
//! c10d      libtorch's Gloo and NCCL as such a link
//! libtorch  its tensors, for both
//! reach     which of them a run takes
//! ```
//!
//! A process's number is its rank. Rank 0 also writes, logs and tokenizes. All ranks call what stands here in the same order.

#[cfg(any(feature = "gloo", feature = "nccl"))]
mod c10d;
#[cfg(all(feature = "mpi", feature = "tch"))]
mod cuda_aware;
mod launched;
#[cfg(all(feature = "tch", any(feature = "mpi", feature = "gloo", feature = "nccl")))]
mod libtorch;
mod link;
#[cfg(feature = "mpi")]
mod mpi;
mod reach;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use burn::tensor::{Device, Tensor};
use serde::Serialize;
use serde::de::DeserializeOwned;

use launched::Launched;
use link::Link;

/// The processes cannot work together.
#[derive(Debug, thiserror::Error)]
#[error("{line}")]
pub struct DistError {
    line: String,
    /// Whether this process is the one that tells.
    pub is_main: bool,
}

/// All processes of a run, seen from one of them.
pub struct World {
    rank: usize,
    /// The machine of each rank.
    hosts: Vec<String>,
    failed: AtomicBool,
    /// One thread at a time uses it.
    link: Option<Mutex<Box<dyn Link>>>,
}

impl World {
    /// Finds the other processes of the run.
    ///
    /// # Errors
    /// If there are some, and they cannot be reached from here.
    pub fn open(host: String) -> Result<Self, DistError> {
        match Launched::found(&|name| std::env::var(name).ok()) {
            Some(launched) => Self::joined(&launched, host),
            None => Ok(Self::alone(host)),
        }
    }

    /// A process without others.
    pub fn alone(host: String) -> Self {
        Self { rank: 0, hosts: vec![host], failed: AtomicBool::new(false), link: None }
    }

    fn joined(launched: &Launched, host: String) -> Result<Self, DistError> {
        let link = reach::open(launched).map_err(|line| DistError { line, is_main: launched.rank == 0 })?;
        let named = link::gather(&*link, host.as_bytes());
        let hosts = named.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        Ok(Self { rank: link.rank(), hosts, failed: AtomicBool::new(false), link: Some(Mutex::new(link)) })
    }

    /// This process's number.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many processes there are.
    pub fn size(&self) -> usize {
        self.hosts.len()
    }

    /// Whether this process is the one that writes and logs.
    pub fn is_main(&self) -> bool {
        self.rank == 0
    }

    /// This process's number among those of its machine.
    pub fn local_rank(&self) -> usize {
        let own = &self.hosts[self.rank];
        self.hosts[..self.rank].iter().filter(|host| *host == own).count()
    }

    /// `rank 1 on node7`
    pub fn name_of(&self, rank: usize) -> String {
        format!("rank {rank} on {}", self.hosts[rank])
    }

    /// What every rank says, in the order of ranks.
    ///
    /// # Errors
    /// If it cannot be said or understood.
    pub fn share<T: Serialize + DeserializeOwned>(&self, own: &T) -> Result<Vec<T>> {
        let said = self.gather(&serde_json::to_vec(own)?).into_iter().enumerate();
        let heard = said.map(|(rank, text)| {
            serde_json::from_slice(&text).with_context(|| format!("{}: cannot be understood", self.name_of(rank)))
        });
        heard.collect()
    }

    /// What rank 0 says.
    ///
    /// # Errors
    /// As [`Self::share`].
    pub fn of_main<T: Serialize + DeserializeOwned>(&self, own: T) -> Result<T> {
        if self.size() == 1 {
            return Ok(own);
        }
        // A list, because what is said may be that there is nothing.
        let said = self.share(&Vec::from_iter(self.is_main().then_some(own)))?;
        said.into_iter().flatten().next().context("rank 0 said nothing")
    }

    /// What this rank has done, if no rank failed.
    ///
    /// # Errors
    /// What failed, on every rank the same: the error of the first that did.
    pub fn agree<T>(&self, own: Result<T>) -> Result<T> {
        Ok(self.agree_with(own, &())?.0)
    }

    /// [`Self::agree`], with a note of each rank.
    ///
    /// # Errors
    /// As [`Self::agree`].
    pub fn agree_with<T, N>(&self, own: Result<T>, note: &N) -> Result<(T, Vec<N>)>
    where
        N: Serialize + DeserializeOwned + Clone,
    {
        if self.size() == 1 {
            return Ok((own?, vec![note.clone()]));
        }
        let said = self.share(&(own.as_ref().err().map(|error| format!("{error:#}")), note.clone()))?;
        let (failures, notes): (Vec<Option<String>>, Vec<N>) = said.into_iter().unzip();
        let Some((rank, line)) = failures.into_iter().enumerate().find_map(|(rank, line)| Some((rank, line?))) else {
            return Ok((own?, notes));
        };
        self.failed.store(true, Ordering::Relaxed);
        match own {
            Err(error) if rank == 0 && self.is_main() => Err(error),
            _ if rank == 0 => Err(anyhow!(line)),
            _ => Err(anyhow!("{}: {line}", self.name_of(rank))),
        }
    }

    /// Makes sure that what should be the same on all ranks is.
    ///
    /// # Errors
    /// The first rank that has another than rank 0, on all.
    pub fn expect_same(&self, what: &str, own: &str) -> Result<()> {
        let of_ranks = self.share(&own.to_owned())?;
        let Some(rank) = of_ranks.iter().position(|of_rank| *of_rank != of_ranks[0]) else { return Ok(()) };
        let [own, other] = differing(&of_ranks[0], &of_ranks[rank]);
        self.failed.store(true, Ordering::Relaxed);
        Err(anyhow!("the {what} of rank 0 and of {} differ: {own} and {other}", self.name_of(rank)))
    }

    /// Whether all ranks know that the run fails, and why: then rank 0 tells, and all leave together.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Calls `work` on rank 0, then on the first rank of every other machine, then on all that are left: what the first
    /// leaves in a folder, others find there, whether machines share it or not.
    ///
    /// # Errors
    /// As [`Self::agree`].
    pub fn in_turn<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let turn = if self.is_main() { 0 } else { 1 + usize::from(self.local_rank() > 0) };
        let (mut work, mut done) = (Some(work), None);
        for now in 0..if self.size() == 1 { 1 } else { 3 } {
            let result = match work.take_if(|_| now == turn) {
                Some(work) => work().map(|result| done = Some(result)),
                None => Ok(()),
            };
            self.agree(result)?;
        }
        done.context("every rank has its turn")
    }

    /// From now on a wait for other ranks that takes longer ends the job (`--ddp_timeout`); none waits for ever.
    pub fn limit_waits(&self, limit: Option<Duration>) {
        if let Some(link) = self.link() {
            link.limit_waits(limit);
        }
    }

    /// Adds up the values of all ranks, in the order of ranks, in place.
    pub fn sum(&self, values: &mut [f32]) {
        if let Some(link) = self.link() {
            link::sum(&**link, values);
        }
    }

    /// Whether [`Self::sum_tensor`] adds up where tensors of this device are, without the way through main memory.
    pub fn sums_tensors(&self, device: &Device) -> bool {
        self.link().is_some_and(|link| link.sums_tensors(device))
    }

    /// The sum of a flat tensor over all ranks, in an order that is the library's: all ranks get the same bits. Where
    /// [`Self::sums_tensors`] says so; not to be looked at before [`Self::finish_sums`].
    pub fn sum_tensor(&self, tensor: Tensor<1>) -> Tensor<1> {
        match self.link() {
            Some(link) => link.sum_tensor(tensor),
            None => tensor,
        }
    }

    /// Waits for the sums of tensors, or has the device wait for them.
    pub fn finish_sums(&self) {
        if let Some(link) = self.link() {
            link.finish_sums();
        }
    }

    /// Gives all ranks the bytes of one of them, in place.
    pub fn broadcast(&self, from: usize, bytes: &mut [u8]) {
        if let Some(link) = self.link() {
            link::broadcast(&**link, from, bytes);
        }
    }

    /// Ends all processes of the run at once: this one failed in a way that the others do not know of.
    pub fn abort(&self, code: u8) {
        if let Some(link) = self.link() {
            link.abort(code);
        }
    }

    /// A panic while it was used leaves it as whole as it was.
    fn link(&self) -> Option<MutexGuard<'_, Box<dyn Link>>> {
        self.link.as_ref().map(|link| link.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The bytes of every rank.
    fn gather(&self, own: &[u8]) -> Vec<Vec<u8>> {
        self.link().map_or_else(|| vec![own.to_vec()], |link| link::gather(&**link, own))
    }
}

/// What two texts have from the first word on in which they differ, of which there is no more than a line.
fn differing<'a>(a: &'a str, b: &'a str) -> [&'a str; 2] {
    const MOST: usize = 80;
    let same = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    let word = a.char_indices().take_while(|(at, _)| *at <= same.min(a.len())).filter(|(_, c)| " ,".contains(*c));
    let start = word.last().map_or(0, |(at, c)| at + c.len_utf8());
    [a, b].map(|text| {
        let rest = text.get(start..).unwrap_or_default();
        match rest.char_indices().nth(MOST) {
            Some((end, _)) => &rest[..end],
            None => rest,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_from_where_they_differ() {
        assert_eq!(differing("--lr 1 --seed 12 --x", "--lr 1 --seed 13 --x"), ["12 --x", "13 --x"]);
        assert_eq!(differing("a b", "a b c"), ["b", "b c"]);
        assert_eq!(differing("é x", "è x"), ["é x", "è x"]);
        assert_eq!(differing(&"x".repeat(200), "y")[0].len(), 80);
    }

    #[test]
    fn a_process_alone_agrees_with_itself() {
        let world = World::alone("node".into());
        assert!(world.is_main() && world.size() == 1 && world.local_rank() == 0);
        assert_eq!(world.share(&3).expect("shared"), [3]);
        assert_eq!(world.of_main("a".to_owned()).expect("said"), "a");
        assert_eq!(world.in_turn(|| Ok(5)).expect("done"), 5);
        assert_eq!(world.agree_with(Ok(1), &2).expect("agreed"), (1, vec![2]));
        // Its error is the one that it had, of whatever kind.
        let error =
            world.agree::<()>(Err(DistError { line: "full".into(), is_main: true }.into())).expect_err("failed");
        assert!(error.is::<DistError>() && !world.has_failed());
        let mut values = [1.0, -0.0];
        world.sum(&mut values);
        assert_eq!(values, [1.0, -0.0]);
    }
}
