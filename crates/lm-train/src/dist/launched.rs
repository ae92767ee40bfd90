//! Who started this process, and how many others: launchers say so in the environment.

/// What a launcher started.
#[derive(Debug, PartialEq, Eq)]
pub struct Launched {
    /// The launcher's name.
    pub by: &'static str,
    /// This process's number.
    pub rank: usize,
    /// Its number among those of its machine, by which it chooses a GPU.
    pub local_rank: usize,
    /// How many processes there are; more than one.
    pub size: usize,
    /// Whether they can reach each other by MPI.
    pub mpi: bool,
}

/// Launchers by the variables in which they say rank, rank on the machine and number of processes, the surest first.
const LAUNCHERS: [(&str, [&str; 3], bool); 5] = [
    ("mpirun", ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_SIZE"], true),
    ("mpirun", ["PMI_RANK", "MPI_LOCALRANKID", "PMI_SIZE"], true),
    ("srun", ["PMIX_RANK", "SLURM_LOCALID", "SLURM_STEP_NUM_TASKS"], true),
    ("srun", ["SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_NUM_TASKS"], false),
    ("torchrun", ["RANK", "LOCAL_RANK", "WORLD_SIZE"], false),
];

impl Launched {
    /// What the environment says; none of a process that is alone.
    pub fn found(variable: &dyn Fn(&str) -> Option<String>) -> Option<Self> {
        let number = |name: &str| variable(name)?.trim().parse::<usize>().ok();
        LAUNCHERS.into_iter().find_map(|(by, [rank, local_rank, size], mpi)| {
            let (rank, size) = (number(rank)?, number(size)?);
            let local_rank = number(local_rank).unwrap_or(rank);
            (size > 1).then_some(Self { by, rank, local_rank, size, mpi })
        })
    }

    /// Whether the processes can reach each other by MPI.
    ///
    /// # Errors
    /// The line that says how to start them instead.
    pub fn check(&self) -> Result<(), String> {
        let how = match self.by {
            _ if self.mpi => return Ok(()),
            "srun" => {
                " without MPI: give it --mpi=pmix, or --mpi=pmi2 for MPICH (srun --mpi=list says what there is); the \
                 program must be built with `--features mpi`"
            }
            _ => {
                ", which meet by libtorch: the program must be built with `--features nccl` for NVIDIA GPUs or `--features \
                 gloo` for processors; or start them by mpirun, with a program that is built with `--features mpi`"
            }
        };
        Err(format!("{} started {} processes{how}", self.by, self.size))
    }

    /// What a program without MPI says to who starts it by MPI.
    #[cfg(not(feature = "mpi"))]
    pub fn by_itself(&self) -> String {
        format!(
            "{} started {} processes, but this program was built without MPI, so each would be a run of its own: build it with `--features mpi`, or start one process (--devices uses several devices of one machine)",
            self.by, self.size
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)]) -> Option<Launched> {
        Launched::found(&|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn launchers_by_their_variables() {
        let open_mpi = [("OMPI_COMM_WORLD_RANK", "1"), ("OMPI_COMM_WORLD_SIZE", "4"), ("PMIX_RANK", "1")];
        assert_eq!(found(&open_mpi), Some(Launched { by: "mpirun", rank: 1, local_rank: 1, size: 4, mpi: true }));
        let mpich = [("PMI_RANK", "3"), ("PMI_SIZE", "4"), ("MPI_LOCALRANKID", "1")];
        assert_eq!(found(&mpich), Some(Launched { by: "mpirun", rank: 3, local_rank: 1, size: 4, mpi: true }));
        let slurm = [("SLURM_PROCID", "3"), ("SLURM_STEP_NUM_TASKS", "8")];
        let with_pmix = [&slurm[..], &[("PMIX_RANK", "3")]].concat();
        assert!(found(&with_pmix).is_some_and(|launched| launched.check().is_ok()));
        let line = found(&slurm).expect("found").check().expect_err("no MPI");
        assert!(line.starts_with("srun started 8 processes without MPI: give it --mpi=pmix"), "{line}");
        let line = found(&[("RANK", "0"), ("WORLD_SIZE", "2")]).expect("found").check().expect_err("no MPI");
        assert!(line.starts_with("torchrun started 2 processes, which meet by libtorch"), "{line}");
    }

    #[test]
    fn a_process_that_is_alone() {
        for variables in [
            &[][..],
            &[("WORLD_SIZE", "1"), ("RANK", "0")],
            &[("WORLD_SIZE", "4")],
            &[("OMPI_COMM_WORLD_RANK", "0"), ("OMPI_COMM_WORLD_SIZE", "1")],
            &[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "8")],
            &[("RANK", "high"), ("WORLD_SIZE", "2")],
        ] {
            assert_eq!(found(variables), None, "{variables:?}");
        }
    }
}
