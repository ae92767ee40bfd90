//! Inputs that are kept for the backward pass in bfloat16.

use super::*;

/// The values are those of float32, and the gradients are near, not equal: something was rounded.
fn check_narrow(f: Operation, m: &[Tensor<2>], v: &[Tensor<1>]) {
    if on_libtorch() {
        return;
    }
    let narrow = on_any_threads(|| run(f, m, v, Compute { narrow_saved: true, ..FAST }));
    let wide = run(f, m, v, FAST);
    assert!(narrow[0] == wide[0]);
    assert_close(&narrow, &wide, 1e-2, usual);
    assert!(narrow[1..] != wide[1..]);
}

#[test]
fn gradients_of_what_was_kept_in_16_bits_are_near() {
    let (x, w) = (matrix(1, [70, 40], 1.0), vector(2, 40, 1.0));
    let (x, w) = (std::slice::from_ref(&x), std::slice::from_ref(&w));
    check_narrow(&|m, v, mode| rms_norm(m[0].clone(), v[0].clone(), 1.0, 1e-6, mode), x, w);
    check_narrow(&|m, v, mode| layer_norm(m[0].clone(), v[0].clone(), v[0].clone(), 1e-6, mode), x, w);
    check_narrow(&|m, _, mode| glu_packed(m[0].clone(), Gate::Gelu, mode), x, &[]);

    // More than one thread's share.
    let two = [matrix(3, [70, 300], 2.0), matrix(4, [70, 300], 2.0)];
    check_narrow(&|m, _, mode| glu(m[0].clone(), m[1].clone(), Gate::Silu, mode), &two, &[]);
    check_narrow(&|m, _, mode| linear(m[0].clone(), m[1].clone(), None, mode), &two, &[]);
    let activated = |m: &[Tensor<2>], _: &[Tensor<1>], mode: &Mode| {
        linear_of_activation(m[0].clone(), Activation::Gelu, m[1].clone(), None, Layout::OutIn, mode)
    };
    check_narrow(&activated, &two, &[]);

    let rows = sequences(&[30, 40], Padding::Drop, false);
    let attended = |m: &[Tensor<2>], _: &[Tensor<1>], mode: &Mode| {
        let options = Attention { kv_heads: 1, ..Attention::new(2, 16, AttentionMask::Causal, 0.1) };
        attention(m[0].clone(), m[1].clone(), m[2].clone(), &rows, &rows, &options, mode)
    };
    check_narrow(&attended, &[matrix(5, [70, 32], 1.0), matrix(6, [70, 16], 1.0), matrix(7, [70, 16], 1.0)], &[]);
}
