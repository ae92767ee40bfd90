//! Convolutions along sequences.

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn convolutions(batch in 1usize..4, seq in 1usize..40, heads in 1usize..4, dim in 1usize..20, half in 0usize..5) {
        let (width, rows, lengths) = (2 * half + 1, batch * seq, vec![seq; batch]);
        let sequences = &sequences(&lengths, Padding::Mask, false);
        let x = matrix(1, [rows, heads * dim], 1.0);
        check(
            |m, _, mode| convolution(m[0].clone(), m[1].clone(), sequences, mode),
            &[x.clone(), matrix(2, [heads * dim, width], 1.0)],
            &[],
        );
        // Scores of one place are all the same: their gradients are rounding errors.
        check_to(
            |which| if which == 2 { 1.0 } else { 1e-3 },
            |m, _, mode| dynamic_convolution(m[0].clone(), m[1].clone(), heads, sequences, mode),
            &[x, matrix(3, [rows, heads * width], 1.0)],
            &[],
        );
    }
}
