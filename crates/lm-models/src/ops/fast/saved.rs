//! What the backward pass needs of the forward pass, in bfloat16 where that is asked for: half the memory. The forward pass
//! does not change; gradients are as exact as those of a model in bfloat16, which keeps the same.

use std::ops::Range;

use burn::backend::flex::FlexTensor;
use burn::tensor::TensorData;
use half::bf16;
use rayon::prelude::*;

use super::buffer::{CHUNK, build};
use super::simd::{narrow, simd, wide};
use super::tensor::{is_in_16_bits, tensor_like, values, values_in_16_bits};

/// A tensor as it is kept: rounded if `narrow`, unless none of the inputs wants a gradient and it is let go of at once.
pub fn saved(tensor: FlexTensor, narrow: bool, wanted: &[bool]) -> FlexTensor {
    if narrow && wanted.contains(&true) { narrowed(&tensor) } else { tensor }
}

fn narrowed(tensor: &FlexTensor) -> FlexTensor {
    let from = values(tensor);
    let mut to = vec![bf16::ZERO; from.len()];
    to.par_chunks_mut(CHUNK).zip(from.par_chunks(CHUNK)).for_each(|(to, from)| {
        simd(
            #[inline(always)]
            || to.iter_mut().zip(from).for_each(|(to, &from)| *to = narrow(from)),
        );
    });
    FlexTensor::from_data(TensorData::new(to, tensor.layout().shape().clone()))
}

/// A tensor that was kept, as it was or rounded.
pub fn widened(tensor: FlexTensor) -> FlexTensor {
    if !is_in_16_bits(&tensor) {
        return tensor;
    }
    let from = values_in_16_bits(&tensor);
    let to = build(from.len(), CHUNK, |start, to| {
        simd(
            #[inline(always)]
            || to.iter_mut().zip(&from[start..]).for_each(|(to, &from)| *to = wide(from)),
        );
    });
    tensor_like(to, &tensor)
}

/// Some values of a tensor that was kept; `room` is where those that were rounded become float32.
pub fn widened_part<'a>(tensor: &'a FlexTensor, places: Range<usize>, room: &'a mut Vec<f32>) -> &'a [f32] {
    if !is_in_16_bits(tensor) {
        return &values(tensor)[places];
    }
    room.clear();
    room.extend(values_in_16_bits(tensor)[places].iter().map(|&x| wide(x)));
    room
}

#[cfg(test)]
mod tests {
    use super::super::tensor::tensor;
    use super::*;

    #[test]
    fn what_is_kept_comes_back_rounded() {
        let count = 2 * CHUNK + 5;
        let all: Vec<f32> = (0..count).map(|i| (i as f32 * 0.37).sin() * 10.0).collect();
        let back = widened(saved(tensor(all.clone(), [count]), true, &[false, true]));
        let rounded: Vec<f32> = all.iter().map(|&x| bf16::from_f32(x).to_f32()).collect();
        assert!(values(&back) == rounded);
        let kept = saved(tensor(all.clone(), [count]), true, &[true]);
        assert!(widened_part(&kept, 3..CHUNK, &mut Vec::new()) == &rounded[3..CHUNK]);
        for (narrow, wanted) in [(false, true), (true, false)] {
            assert!(values(&widened(saved(tensor(all.clone(), [count]), narrow, &[wanted]))) == all);
        }
    }
}
