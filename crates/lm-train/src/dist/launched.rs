//! Who started this process, and how many others: launchers say so in the environment.

/// What a launcher started.
#[derive(Debug, PartialEq, Eq)]
pub struct Launched {
    /// The launcher's name.
    pub by: &'static str,
    /// This process's number.
    pub rank: usize,
    /// How many processes there are; more than one.
    pub size: usize,
    /// Whether they can reach each other by MPI.
    mpi: bool,
}

/// Launchers by the variables in which they say rank and number of processes, the surest first.
const LAUNCHERS: [(&str, &str, &str, bool); 5] = [
    ("mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", true),
    ("mpirun", "PMI_RANK", "PMI_SIZE", true),
    ("srun", "PMIX_RANK", "SLURM_STEP_NUM_TASKS", true),
    ("srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", false),
    ("torchrun", "RANK", "WORLD_SIZE", false),
];

impl Launched {
    /// What the environment says; none of a process that is alone.
    pub fn found(variable: &dyn Fn(&str) -> Option<String>) -> Option<Self> {
        let number = |name: &str| variable(name)?.trim().parse::<usize>().ok();
        LAUNCHERS.into_iter().find_map(|(by, rank, size, mpi)| {
            let (rank, size) = (number(rank)?, number(size)?);
            (size > 1).then_some(Self { by, rank, size, mpi })
        })
    }

    /// Whether the processes can reach each other.
    ///
    /// # Errors
    /// The line that says how to start them instead.
    pub fn check(&self) -> Result<(), String> {
        let how = match self.by {
            _ if self.mpi => return Ok(()),
            "srun" => " without MPI: give it --mpi=pmix, or --mpi=pmi2 for MPICH (srun --mpi=list says what there is)",
            _ => ", which reach each other by MPI only: start them by mpirun or srun",
        };
        Err(format!(
            "{} started {} processes{how}; the program must be built with `--features mpi`",
            self.by, self.size
        ))
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
        assert_eq!(found(&open_mpi), Some(Launched { by: "mpirun", rank: 1, size: 4, mpi: true }));
        let mpich = [("PMI_RANK", "0"), ("PMI_SIZE", "2")];
        assert_eq!(found(&mpich), Some(Launched { by: "mpirun", rank: 0, size: 2, mpi: true }));
        let slurm = [("SLURM_PROCID", "3"), ("SLURM_STEP_NUM_TASKS", "8")];
        let with_pmix = [&slurm[..], &[("PMIX_RANK", "3")]].concat();
        assert!(found(&with_pmix).is_some_and(|launched| launched.check().is_ok()));
        let line = found(&slurm).expect("found").check().expect_err("no MPI");
        assert!(line.starts_with("srun started 8 processes without MPI: give it --mpi=pmix"), "{line}");
        let line = found(&[("RANK", "0"), ("WORLD_SIZE", "2")]).expect("found").check().expect_err("no MPI");
        assert!(line.starts_with("torchrun started 2 processes, which"), "{line}");
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
