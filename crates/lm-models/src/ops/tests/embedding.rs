//! Tables of vectors, and of angles.

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn embeddings(count in 1usize..50, dim in 1usize..40, ids in prop::collection::vec(0usize..1000, 1..60)) {
        let ids: Vec<i32> = ids.iter().map(|id| (id % count) as i32).collect();
        let ids = Tensor::<1, Int>::from_data(TensorData::new(ids.clone(), [ids.len()]), &device());
        check(|m, _, mode| embedding(m[0].clone(), ids.clone(), mode), &[matrix(1, [count, dim], 1.0)], &[]);
    }

    /// A table that others use too, before and after its rows are taken.
    #[test]
    fn tied_embeddings(count in 1usize..50, dim in 1usize..40, ids in prop::collection::vec(0usize..1000, 1..60), leaf: bool) {
        let ids: Vec<i32> = ids.iter().map(|id| (id % count) as i32).collect();
        let ids = Tensor::<1, Int>::from_data(TensorData::new(ids.clone(), [ids.len()]), &device());
        let tied = |m: &[Tensor<2>], _: &[Tensor<1>], mode: &Mode| {
            let table = if leaf { m[0].clone() } else { m[0].clone() * 2.0 };
            let rows = embedding(table.clone(), ids.clone(), mode);
            let other = embedding(table.clone(), ids.clone().flip([0]), mode);
            linear(rows * 0.5 + other, table, None, mode)
        };
        check(tied, &[matrix(1, [count, dim], 1.0)], &[]);
    }

    #[test]
    fn rotations(
        rows in 1usize..70,
        heads in 1usize..4,
        (half, rest) in (1usize..20, 0usize..5),
        halves: bool,
        first in 0usize..50,
    ) {
        let positions: Vec<i32> = (0..rows).map(|row| ((row * 7 + first) % 60) as i32).collect();
        let positions = Tensor::<1, Int>::from_data(TensorData::new(positions, [rows]), &device());
        let angles = matrix(2, [60, half], 3.0).inner();
        let (cos, sin) = (angles.clone().cos() * 1.2, angles.sin() * 1.2);
        let pairs = if halves { Pairs::Halves } else { Pairs::Interleaved };
        let x = matrix(1, [rows, heads * (2 * half + rest)], 1.0);
        let turn = |m: &[Tensor<2>], _: &[Tensor<1>], mode: &Mode| {
            rotary(m[0].clone(), cos.clone(), sin.clone(), positions.clone(), heads, pairs, mode)
        };
        check(turn, &[x], &[]);
    }
}
