//! `--sharded_optimizer`: each process keeps and moves its share of the parameters, and all get them from their owners (ZeRO
//! stage 1, Rajbhandari et al., 2020). What a process keeps for its share is what one process would keep for it, so the result is
//! the same bits.

use std::cmp::Reverse;
use std::collections::HashMap;

use anyhow::Result;
use burn::tensor::{DType, Device, Tensor, TensorData};
use lm_models::AutoModel;
use lm_models::parameters::ParameterInfo;

use crate::dist::World;
use crate::optim::{Kept, StateTensor};

/// The rank that owns each parameter: the largest parameters first, each to the rank that has least.
pub fn owners(parameters: &[ParameterInfo], ranks: usize) -> Vec<usize> {
    let mut by_size: Vec<usize> = (0..parameters.len()).filter(|&index| parameters[index].trainable).collect();
    by_size.sort_by_key(|&index| Reverse(parameters[index].len()));
    let (mut owners, mut loads) = (vec![0; parameters.len()], vec![0; ranks]);
    for index in by_size {
        // Of several the first.
        let owner = (0..ranks).min_by_key(|&rank| loads[rank]).unwrap_or(0);
        loads[owner] += parameters[index].len();
        owners[index] = owner;
    }
    owners
}

/// The model with the parameters that were moved as their owners have them. They travel in pieces of about `bucket` bytes.
pub fn spread(world: &World, model: AutoModel, owners: &[usize], moved: &[bool], bucket: usize) -> AutoModel {
    let snapshot = model.snapshot();
    let mut arrived: Vec<Option<Tensor<1>>> = vec![None; owners.len()];
    for owner in 0..world.size() {
        let mut of_owner = (0..moved.len()).filter(|&index| moved[index] && owners[index] == owner).peekable();
        while of_owner.peek().is_some() {
            let (mut members, mut bytes) = (Vec::new(), Vec::new());
            while let Some(index) = of_owner.next_if(|_| members.is_empty() || bytes.len() < bucket) {
                match owner == world.rank() {
                    true => bytes.extend_from_slice(snapshot[index].tensor.to_data().as_bytes()),
                    false => bytes.resize(bytes.len() + size_of::<f32>() * snapshot[index].info.len(), 0),
                }
                members.push(index);
            }
            world.broadcast(owner, &mut bytes);
            if owner != world.rank() {
                let mut rest = &bytes[..];
                for index in members {
                    let (own, others) = rest.split_at(size_of::<f32>() * snapshot[index].info.len());
                    let device = snapshot[index].tensor.device();
                    arrived[index] = Some(tensor(own, &device));
                    rest = others;
                }
            }
        }
    }
    drop(snapshot);
    let mut arrived = arrived.into_iter();
    model.map(|_, own| arrived.next().flatten().unwrap_or(own))
}

/// The whole state of an optimizer of which each rank has a part, on this device of rank 0; elsewhere nothing.
///
/// # Errors
/// If the processes cannot hear each other.
pub fn gathered(
    world: &World,
    own: Vec<StateTensor>,
    parameters: &[ParameterInfo],
    device: &Device,
) -> Result<Vec<StateTensor>> {
    let of_ranks = world.share(&own.iter().map(StateTensor::described).collect::<Vec<_>>())?;
    let mut own = own.into_iter();
    let mut all = Vec::new();
    for (rank, described) in of_ranks.into_iter().enumerate() {
        for (name, shape, is_codes) in described {
            let mut bytes = match own.as_slice().first().filter(|_| rank == world.rank()) {
                Some(tensor) => tensor.values.to_data().as_bytes().to_vec(),
                None => vec![0; shape.iter().product::<usize>() * if is_codes { 1 } else { size_of::<f32>() }],
            };
            world.broadcast(rank, &mut bytes);
            if rank == world.rank() {
                all.extend(own.next());
            } else if world.is_main() {
                all.push(StateTensor { values: Kept::from_bytes(bytes, is_codes, device), name, shape });
            }
        }
    }
    // In the order in which one process has them.
    let places: HashMap<&str, usize> =
        parameters.iter().enumerate().map(|(at, info)| (info.name.as_str(), at)).collect();
    all.sort_by_key(|tensor| tensor.name.split_once('.').and_then(|(_, name)| places.get(name).copied()));
    Ok(if world.is_main() { all } else { Vec::new() })
}

fn tensor(bytes: &[u8], device: &Device) -> Tensor<1> {
    let len = bytes.len() / size_of::<f32>();
    Tensor::from_data(TensorData::from_bytes_vec(bytes.to_vec(), [len], DType::F32), device)
}

#[cfg(test)]
mod tests {
    use lm_models::parameters::{Initial, Kind};

    use super::*;

    #[test]
    fn parameters_are_shared_out_by_size() {
        let info = |len: usize, trainable| ParameterInfo {
            name: String::new(),
            shape: vec![len],
            kind: Kind::Weight,
            decays: true,
            initial: Initial::Zeros,
            layer: None,
            trainable,
        };
        let parameters = [info(5, true), info(100, false), info(9, true), info(4, true), info(4, true)];
        assert_eq!(owners(&parameters, 1), [0; 5]);
        assert_eq!(owners(&parameters, 2), [1, 0, 0, 1, 0]);
        assert_eq!(owners(&parameters, 8), [1, 0, 0, 2, 3], "some own nothing");
    }
}
