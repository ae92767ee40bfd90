//! The process groups of libtorch, as torchrun's processes and Python's `torch.distributed` have them.
// burn-tch is marked deprecated in 0.22, the last line that has it.
#![cfg_attr(test, allow(deprecated))]

use std::cell::Cell;
use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor};
use lm_c10d::{Engine, Group, GroupError, Store};

use super::launched::Launched;
use super::libtorch;
use super::link::Link;

/// How long the processes wait for each other at the beginning; Python's `--ddp_timeout`.
const MEETING: Duration = Duration::from_secs(1800);
/// What c10d takes for no limit.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Where the processes meet, as Python's `env://` has it; none if the environment does not say, and they are no
/// torchrun's.
///
/// # Errors
/// If it says half of it.
pub fn store(variable: &dyn Fn(&str) -> Option<String>, launched: &Launched) -> Result<Option<Store>, String> {
    let (host, port) = match (variable("MASTER_ADDR"), variable("MASTER_PORT")) {
        (Some(host), Some(port)) => (host, port),
        (None, None) if launched.by != "torchrun" => return Ok(None),
        _ => {
            return Err(format!(
                "{} started {} processes, and MASTER_ADDR and MASTER_PORT do not both say where they meet",
                launched.by, launched.size
            ));
        }
    };
    let port = port.trim().parse().map_err(|_| format!("MASTER_PORT={port}: no number of a port"))?;
    // torchrun holds the store itself, and it outlives processes that are started again.
    let is_agents = variable("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|value| value == "True");
    let attempt = variable("TORCHELASTIC_RESTART_COUNT").unwrap_or_else(|| "0".to_owned());
    Ok(Some(Store { host, port, is_server: launched.rank == 0 && !is_agents, prefix: format!("lm/attempt_{attempt}") }))
}

/// All processes that were started together.
pub struct C10d {
    group: Group,
    engine: Engine,
    rank: usize,
    size: usize,
    limit: Cell<Duration>,
}

impl C10d {
    /// Joins the others.
    ///
    /// # Errors
    /// If they do not come, or there is neither a GPU for NCCL nor Gloo.
    pub fn open(store: &Store, launched: &Launched) -> Result<Self, String> {
        let (rank, size) = (launched.rank, launched.size);
        let engine = Engine::found(launched.local_rank).ok_or(
            "there is no NVIDIA GPU, and processes without one need a program that is built with `--features gloo`",
        )?;
        let group = Group::open(store, rank, size, engine, MEETING).map_err(|error| {
            format!("rank {rank} does not reach the others at {}:{}: {error}", store.host, store.port)
        })?;
        Ok(Self { group, engine, rank, size, limit: Cell::new(FOREVER) })
    }

    /// Does something that all do; if they do not, the process ends here.
    fn together(&self, work: impl FnOnce(&Group) -> Result<(), GroupError>) {
        let began = Instant::now();
        let Err(error) = work(&self.group) else { return };
        let (rank, waited) = (self.rank, began.elapsed());
        if waited >= self.limit.get() {
            tracing::error!(
                "rank {rank} has waited {} s for the others (--ddp_timeout): one is cut off or hangs; the job ends here",
                waited.as_secs()
            );
        } else {
            tracing::error!("rank {rank} does not hear the others any more: {error}; the job ends here");
        }
        self.abort(1)
    }
}

impl Link for C10d {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn limit_waits(&self, limit: Option<Duration>) {
        let limit = limit.unwrap_or(FOREVER);
        self.limit.set(limit);
        self.together(|group| group.limit_waits(limit));
    }

    fn all_to_all(&self, sent: &[u8], received: &mut [u8]) {
        self.together(|group| group.all_to_all(sent, received));
    }

    fn all_gather(&self, own: &[u8], all: &mut [u8]) {
        self.together(|group| group.all_gather(own, all));
    }

    fn broadcast(&self, from: usize, bytes: &mut [u8]) {
        self.together(|group| group.broadcast(from, bytes));
    }

    fn sums_tensors(&self, device: &Device) -> bool {
        matches!(self.engine, Engine::Nccl(_)) && libtorch::is_cuda(device)
    }

    fn sum_tensor(&self, tensor: Tensor<1>) -> Tensor<1> {
        libtorch::map(tensor, |mut sum| {
            self.together(|group| group.sum(&mut sum));
            sum
        })
    }

    fn finish_sums(&self) {
        self.together(Group::finish_sums);
    }

    /// The launcher ends those that are left, and they hear of it when they next wait.
    fn abort(&self, code: u8) -> ! {
        signal_hook::low_level::exit(code.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store_of(variables: &[(&str, &str)]) -> Result<Option<Store>, String> {
        let variable =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        store(&variable, &Launched::found(&variable).expect("launched"))
    }

    #[test]
    fn where_processes_meet() {
        let torchrun = [("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "node1"), ("MASTER_PORT", "29500")];
        let own = store_of(&torchrun).expect("known").expect("a store");
        assert!(own.is_server && own.host == "node1" && own.port == 29500 && own.prefix == "lm/attempt_0", "{own:?}");
        let again = [("TORCHELASTIC_USE_AGENT_STORE", "True"), ("TORCHELASTIC_RESTART_COUNT", "3")];
        let of_agent = store_of(&[&torchrun[..], &again].concat()).expect("known").expect("a store");
        assert!(!of_agent.is_server && of_agent.prefix == "lm/attempt_3", "{of_agent:?}");
        let line = store_of(&torchrun[..3]).expect_err("half of it");
        assert!(line.starts_with("torchrun started 2 processes, and MASTER_ADDR and MASTER_PORT do not"), "{line}");
        let line = store_of(&[&torchrun[..3], &[("MASTER_PORT", "x")]].concat()).expect_err("no number");
        assert!(line.starts_with("MASTER_PORT=x"), "{line}");
        // Others than torchrun join theirs by MPI, unless they are told where to meet.
        let mpirun = [("OMPI_COMM_WORLD_RANK", "1"), ("OMPI_COMM_WORLD_SIZE", "2")];
        assert!(store_of(&mpirun).expect("known").is_none());
        assert!(
            store_of(&[&mpirun[..], &torchrun[2..]].concat()).expect("known").is_some_and(|store| !store.is_server)
        );
    }

    /// On a machine with GPUs: the sum of a tensor of one process, by NCCL.
    #[test]
    #[ignore = "needs an NVIDIA GPU"]
    fn a_tensor_on_a_gpu_is_summed_there() {
        let variables = [("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "29577"), ("RANK", "0"), ("WORLD_SIZE", "2")];
        let mut store = store_of(&variables).expect("known").expect("a store");
        store.prefix = "lm/test".to_owned();
        let launched = Launched { by: "torchrun", rank: 0, local_rank: 0, size: 1, mpi: false };
        let link = C10d::open(&store, &launched).expect("a GPU");
        let device = Device::libtorch_cuda(0);
        assert!(link.sums_tensors(&device));
        let values = [1.5f32, -2.0, 0.25];
        let sum = link.sum_tensor(Tensor::from_floats(values, &device));
        link.finish_sums();
        let sum = sum.into_data();
        assert_eq!(sum.as_slice::<f32>().expect("floats"), values);
        let mut all = [0; 3];
        link.all_gather(&[1, 2, 3], &mut all);
        assert_eq!(all, [1, 2, 3]);
        let mut received = [0; 4];
        link.all_to_all(&[1, 2, 3, 4], &mut received);
        link.broadcast(0, &mut received);
        assert_eq!(received, [1, 2, 3, 4]);
    }
}
