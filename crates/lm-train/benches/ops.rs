//! Every operation of `lm_models::ops`, forward alone and with its backward pass, fast and plain, at the shapes of
//! BERT 6 × 384 and BERT-base, 8 × 128 tokens; windows at 1 × 1024, where they matter. The table at the end has the best time of each and its share of what the
//! machine reaches: of the arithmetic of a large matrix product, or, for operations that only pass over memory, of the
//! bandwidth of a large copy.
//!
//! `cargo bench --workspace --bench ops -- attention` runs those with `attention` in their names.

use std::collections::BTreeMap;
use std::fmt;
use std::hint::black_box;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use burn::tensor::{Device, Int, Tensor, TensorData};
use divan::Bencher;
use lm_models::ops::{
    self, Activation, AdamW, Attention, AttentionBias, AttentionMask, Decoder, Disentangled, Gate, Pairs, RelativeKeys,
    RelativeQueries,
};
use lm_models::{Mode, Sequences};
use lm_train::keep_memory;
use rayon::prelude::*;

const BATCH: usize = 8;
const SEQ: usize = 128;
const ROWS: usize = BATCH * SEQ;
/// 15 percent of the rows.
const PREDICTED: usize = 154;
const VOCAB: usize = 30522;
const HEADS: usize = 12;
/// Heads of keys and values, where queries share them.
const KV_HEADS: usize = 4;
/// Keys that a query sees through a window.
const WINDOW: usize = 128;
/// Distances that DeBERTa tells apart.
const DISTANCES: usize = 512;
const DROPOUT: f64 = 0.1;

const SIZES: &[(&str, usize)] = &[("mini", 384), ("base", 768)];

/// An operation's name and what makes it, for a hidden size.
type Named = (&'static str, fn(usize) -> Operation);

const OPERATIONS: &[Named] = &[
    ("linear", linear),
    ("linear_in_out", linear_in_out),
    ("layer_norm", layer_norm),
    ("rms_norm", rms_norm),
    ("rotary", rotary),
    ("glu", glu),
    ("glu_packed", glu_packed),
    ("gelu", |hidden| activation(hidden, Activation::Gelu)),
    ("gelu_new", |hidden| activation(hidden, Activation::GeluNew)),
    ("dropout", dropout),
    ("dropout_add", dropout_add),
    ("embedding", embedding),
    ("attention", |hidden| attention(hidden, &sequences(BATCH), AttentionMask::Full)),
    ("causal attention", |hidden| attention(hidden, &sequences(BATCH), AttentionMask::Causal)),
    ("long attention", |hidden| attention(hidden, &sequences(1), AttentionMask::Full)),
    ("window attention", |hidden| {
        attention(hidden, &sequences(1), AttentionMask::Window { left: WINDOW / 2, right: WINDOW / 2 })
    }),
    ("grouped attention", grouped_attention),
    ("alibi attention", alibi_attention),
    ("disentangled attention", disentangled_attention),
    ("relative_attention", relative_attention),
    ("cross_entropy", |hidden| cross_entropy(hidden, PREDICTED)),
    ("cross_entropy of all rows", |hidden| cross_entropy(hidden, ROWS)),
    ("predictions", predictions),
    ("adamw", adamw),
    ("sum_of_squares", sum_of_squares),
];

/// Those without a backward pass, or with it in themselves.
const WHOLE: &[&str] = &["cross_entropy", "cross_entropy of all rows", "predictions", "adamw", "sum_of_squares"];

/// What an operation costs at least.
#[derive(Clone, Copy)]
enum Cost {
    /// Floating-point operations.
    Flop(usize),
    /// Floats read and written.
    Floats(usize),
}

use Cost::{Floats, Flop};

type Compute = Box<dyn FnMut(&[Tensor<2>], &Mode) -> Option<Tensor<2>> + Send>;

/// An operation on matrices.
struct Operation {
    inputs: Vec<Tensor<2>>,
    compute: Compute,
    /// Of the forward pass, and of both.
    cost: [Cost; 2],
}

impl Operation {
    fn new<const N: usize>(
        shapes: [[usize; 2]; N],
        cost: [Cost; 2],
        compute: impl Fn([Tensor<2>; N], &Mode) -> Tensor<2> + Send + 'static,
    ) -> Self {
        let inputs = (1..).zip(shapes).map(|(seed, shape)| constant(seed, shape)).collect();
        let compute = move |x: &[Tensor<2>], mode: &Mode| Some(compute(std::array::from_fn(|i| x[i].clone()), mode));
        Self { inputs, cost, compute: Box::new(compute) }
    }

    /// One of [`WHOLE`].
    fn whole(cost: Cost, mut compute: impl FnMut(ops::Compute) + Send + 'static) -> Self {
        let compute = Box::new(move |_: &[Tensor<2>], mode: &Mode| {
            compute(mode.compute());
            None
        });
        Self { inputs: Vec::new(), cost: [cost; 2], compute }
    }
}

/// One line of the results.
#[derive(Clone, Copy)]
struct Case {
    size: (&'static str, usize),
    operation: Named,
    backward: bool,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let passes = match self.backward {
            _ if WHOLE.contains(&self.operation.0) => "",
            true => " forward and backward",
            false => " forward",
        };
        write!(f, "{} {}{passes}", self.size.0, self.operation.0)
    }
}

fn cases() -> impl Iterator<Item = Case> {
    let cases = SIZES.iter().flat_map(|&size| {
        OPERATIONS.iter().flat_map(move |&operation| [false, true].map(|backward| Case { size, operation, backward }))
    });
    cases.filter(|case| !(case.backward && WHOLE.contains(&case.operation.0)))
}

#[divan::bench(args = cases(), sample_count = 20, max_time = 2)]
fn fast(bencher: Bencher, case: Case) {
    run(bencher, case, false);
}

#[divan::bench(args = cases(), sample_count = 20, max_time = 2)]
fn plain(bencher: Bencher, case: Case) {
    run(bencher, case, true);
}

/// Cost and best time of a case, fast and plain.
type Best = [Option<(Cost, Duration)>; 2];

static RESULTS: Mutex<BTreeMap<String, Best>> = Mutex::new(BTreeMap::new());

fn run(bencher: Bencher, case: Case, plain: bool) {
    let Operation { mut inputs, mut compute, cost } = case.operation.1(case.size.1);
    if case.backward {
        inputs = inputs.into_iter().map(|x| Tensor::from_inner(x).require_grad()).collect();
    }
    let mode = || Mode::train(ops::Compute { plain, ..ops::Compute::default() }, 1, 2, None);
    let weights = compute(&inputs, &mode()).map(|y| constant(99, y.dims()));
    let mut work = || match (compute(&inputs, &mode()), &weights) {
        (Some(y), Some(weights)) if case.backward => {
            black_box((y * Tensor::from_inner(weights.clone())).sum().backward());
        }
        (y, _) => {
            black_box(y);
        }
    };
    let mut best = Duration::MAX;
    bencher.bench_local(|| best = best.min(ops::on_worker(&Device::flex(), || time(&mut work))));
    let mut results = RESULTS.lock().unwrap_or_else(PoisonError::into_inner);
    results.entry(case.to_string()).or_default()[usize::from(plain)] = Some((cost[usize::from(case.backward)], best));
}

fn main() {
    keep_memory("bench");
    let peak = Peak::measure();
    divan::main();
    println!(
        "\npeak: {:.1} GFLOP/s in a product of 2048 × 2048, {:.1} GB/s in a copy\n",
        peak.flop / 1e9,
        peak.bytes / 1e9
    );
    println!("| operation | fast, ms | of peak | plain, ms | of peak |\n|---|---|---|---|---|");
    let cell = |result: Option<(Cost, Duration)>| match result {
        Some((cost, time)) => format!("{:.3} | {:.0} %", 1e3 * time.as_secs_f64(), 100.0 * peak.share(cost, time)),
        None => "– | –".to_owned(),
    };
    for (name, [fast, plain]) in RESULTS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        println!("| {name} | {} | {} |", cell(*fast), cell(*plain));
    }
}

/// What the machine reaches, per second.
struct Peak {
    flop: f64,
    bytes: f64,
}

impl Peak {
    fn measure() -> Self {
        fn best(mut f: impl FnMut()) -> f64 {
            (0..7).map(|_| time(&mut f)).min().unwrap_or_default().as_secs_f64()
        }
        const N: usize = 2048;
        let (a, b) = (constant(1, [N, N]), constant(2, [N, N]));
        let product = best(|| {
            black_box(a.clone().matmul(b.clone()));
        });
        const VALUES: usize = 1 << 25;
        let (from, mut to) = (vec![1f32; VALUES], vec![0f32; VALUES]);
        let copy = best(|| {
            let chunks = to.par_chunks_mut(1 << 16).zip(from.par_chunks(1 << 16));
            chunks.for_each(|(to, from)| to.copy_from_slice(from));
            black_box(&to);
        });
        Self { flop: 2.0 * (N as f64).powi(3) / product, bytes: 8.0 * VALUES as f64 / copy }
    }

    fn share(&self, cost: Cost, time: Duration) -> f64 {
        let at_peak = match cost {
            Flop(flop) => flop as f64 / self.flop,
            Floats(floats) => 4.0 * floats as f64 / self.bytes,
        };
        at_peak / time.as_secs_f64()
    }
}

fn time(f: &mut impl FnMut()) -> Duration {
    let begin = Instant::now();
    f();
    begin.elapsed()
}

/// Noise outside autodiff.
fn constant<const D: usize>(seed: u64, shape: [usize; D]) -> Tensor<D> {
    let mut stream = lm_random::Stream::new(seed, lm_random::Purpose::Init, 0, 0);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| stream.normal()).collect();
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

fn ids(count: usize, below: usize) -> Tensor<1, Int> {
    let ids: Vec<i32> = (0..count).map(|i| (i * 7919 % below) as i32).collect();
    Tensor::from_data(TensorData::new(ids, [count]), &Device::flex())
}

/// Full ones.
fn sequences(batch: usize) -> Sequences {
    Sequences::end_to_end(vec![ROWS / batch; batch], &Device::flex())
}

/// A product's two gradients cost as much each as the product.
fn product(flop: usize) -> [Cost; 2] {
    [Flop(flop), Flop(3 * flop)]
}

fn linear(hidden: usize) -> Operation {
    let (wide, bias) = (4 * hidden, constant(90, [4 * hidden]));
    Operation::new([[ROWS, hidden], [wide, hidden]], product(2 * ROWS * hidden * wide), move |[x, weight], mode| {
        ops::linear(x, weight, Some(bias.clone()), mode)
    })
}

fn linear_in_out(hidden: usize) -> Operation {
    let (wide, bias) = (4 * hidden, constant(90, [4 * hidden]));
    Operation::new([[ROWS, hidden], [hidden, wide]], product(2 * ROWS * hidden * wide), move |[x, weight], mode| {
        ops::linear_in_out(x, weight, Some(bias.clone()), mode)
    })
}

fn layer_norm(hidden: usize) -> Operation {
    let (weight, bias, values) = (constant(91, [hidden]), constant(92, [hidden]), ROWS * hidden);
    Operation::new([[ROWS, hidden]], [Floats(2 * values), Floats(5 * values)], move |[x], mode| {
        ops::layer_norm(x, weight.clone(), bias.clone(), 1e-12, mode)
    })
}

fn rms_norm(hidden: usize) -> Operation {
    let (weight, values) = (constant(91, [hidden]), ROWS * hidden);
    Operation::new([[ROWS, hidden]], [Floats(2 * values), Floats(5 * values)], move |[x], mode| {
        ops::rms_norm(x, weight.clone(), 0.0, 1e-6, mode)
    })
}

fn rotary(hidden: usize) -> Operation {
    let (half, values) = (hidden / HEADS / 2, ROWS * hidden);
    let [cos, sin] = [93, 94].map(|seed| constant(seed, [SEQ, half]));
    let positions = ids(ROWS, SEQ);
    Operation::new([[ROWS, hidden]], [Floats(2 * values), Floats(4 * values)], move |[x], mode| {
        ops::rotary(x, cos.clone(), sin.clone(), positions.clone(), HEADS, Pairs::Halves, mode)
    })
}

fn glu(hidden: usize) -> Operation {
    let values = ROWS * 4 * hidden;
    Operation::new([[ROWS, 4 * hidden]; 2], [Floats(3 * values), Floats(8 * values)], |[gate, up], mode| {
        ops::glu(gate, up, Gate::Silu, mode)
    })
}

fn glu_packed(hidden: usize) -> Operation {
    let values = ROWS * 4 * hidden;
    Operation::new([[ROWS, 8 * hidden]], [Floats(3 * values), Floats(8 * values)], |[gate_up], mode| {
        ops::glu_packed(gate_up, Gate::Gelu, mode)
    })
}

fn activation(hidden: usize, activation: Activation) -> Operation {
    let values = ROWS * 4 * hidden;
    Operation::new([[ROWS, 4 * hidden]], [Floats(2 * values), Floats(5 * values)], move |[x], mode| {
        activation.forward(x, mode)
    })
}

fn dropout(hidden: usize) -> Operation {
    let values = ROWS * hidden;
    Operation::new([[ROWS, hidden]], [Floats(2 * values), Floats(4 * values)], |[x], mode| {
        ops::dropout(x, DROPOUT, mode)
    })
}

fn dropout_add(hidden: usize) -> Operation {
    let values = ROWS * hidden;
    Operation::new([[ROWS, hidden]; 2], [Floats(3 * values), Floats(5 * values)], |[x, residual], mode| {
        ops::dropout_add(x, residual, DROPOUT, mode)
    })
}

fn embedding(hidden: usize) -> Operation {
    let (tokens, values) = (ids(ROWS, VOCAB), ROWS * hidden);
    // The table's gradient is written whole.
    let cost = [Floats(2 * values), Floats(3 * values + VOCAB * hidden)];
    Operation::new([[VOCAB, hidden]], cost, move |[table], mode| ops::embedding(table, tokens.clone(), mode))
}

/// Scores, and their product with the values.
const fn attention_flop(hidden: usize) -> usize {
    4 * ROWS * SEQ * hidden
}

fn attention(hidden: usize, sequences: &Sequences, mask: AttentionMask) -> Operation {
    let sequences = sequences.clone();
    let options = Attention::new(HEADS, hidden / HEADS, mask, DROPOUT);
    let flop = attention_flop(hidden);
    let flop = match mask {
        AttentionMask::Full => flop / SEQ * sequences.seq,
        // Half of the scores.
        AttentionMask::Causal => flop / 2,
        AttentionMask::Window { left, right } => flop / SEQ * (left + right + 1),
    };
    Operation::new([[ROWS, hidden]; 3], product(flop), move |[q, k, v], mode| {
        ops::attention(q, k, v, &sequences, &sequences, &options, mode)
    })
}

fn grouped_attention(hidden: usize) -> Operation {
    let sequences = sequences(BATCH);
    let options = Attention::new(HEADS, hidden / HEADS, AttentionMask::Causal, 0.0);
    let options = Attention { kv_heads: KV_HEADS, ..options };
    let shared = [ROWS, hidden / HEADS * KV_HEADS];
    Operation::new([[ROWS, hidden], shared, shared], product(attention_flop(hidden) / 2), move |[q, k, v], mode| {
        ops::attention(q, k, v, &sequences, &sequences, &options, mode)
    })
}

fn alibi_attention(hidden: usize) -> Operation {
    let sequences = sequences(BATCH);
    let options = Attention::new(HEADS, hidden / HEADS, AttentionMask::Causal, DROPOUT);
    let options = Attention { bias: AttentionBias::Alibi(ops::alibi_slopes(HEADS)), ..options };
    Operation::new([[ROWS, hidden]; 3], product(attention_flop(hidden) / 2), move |[q, k, v], mode| {
        ops::attention(q, k, v, &sequences, &sequences, &options, mode)
    })
}

/// DeBERTa's: queries and keys meet all distances that there are.
fn disentangled_attention(hidden: usize) -> Operation {
    let sequences = sequences(BATCH);
    let options = Attention::new(HEADS, hidden / HEADS, AttentionMask::Full, DROPOUT);
    let buckets: Vec<usize> = (1..2 * SEQ).map(|distance| distance + DISTANCES / 2 - SEQ).collect();
    let (rows, table) = ([ROWS, hidden], [DISTANCES, hidden]);
    let flop = attention_flop(hidden) + 2 * 2 * ROWS * (2 * SEQ - 1) * hidden;
    Operation::new([rows, rows, rows, table, table], product(flop), move |[q, k, v, pos_key, pos_query], mode| {
        let (pos_key, pos_query) = (Some(pos_key), Some(pos_query));
        let relative = Disentangled { pos_key, pos_query, buckets: buckets.clone(), scale: 0.1 };
        let bias = ops::disentangled_bias(q.clone(), k.clone(), relative, &sequences, HEADS, mode);
        let options = Attention { bias: AttentionBias::PerHead(bias), ..options.clone() };
        ops::attention(q, k, v, &sequences, &sequences, &options, mode)
    })
}

fn relative_attention(hidden: usize) -> Operation {
    let sequences = sequences(BATCH);
    let queries = RelativeQueries { sequences: sequences.clone(), distances: None, mask: None };
    let biases = [HEADS, hidden / HEADS];
    // Of twice as many distances, too.
    let cost = product(2 * attention_flop(hidden));
    let shapes = [[ROWS, hidden], [ROWS, hidden], [ROWS, hidden], [2 * SEQ, hidden], biases, biases];
    Operation::new(shapes, cost, move |[q, k, v, r, r_w_bias, r_r_bias], mode| {
        let keys = RelativeKeys { sequences: &sequences, k, v, r, r_w_bias, r_r_bias };
        ops::relative_attention(q, &queries, &keys, DROPOUT, mode)
    })
}

/// The gradients are computed along with the loss.
fn cross_entropy(hidden: usize, predicted: usize) -> Operation {
    let leaf = |x: Tensor<2>| Tensor::from_inner(x).require_grad();
    // Logits of a size that models have: far larger ones make numbers that are too small for the processor.
    let (rows, targets) = (leaf(constant(95, [predicted, hidden]) * 0.05), ids(predicted, VOCAB));
    let bias = Tensor::from_inner(constant::<1>(97, [VOCAB])).require_grad();
    let decoder = Decoder::new(leaf(constant(96, [VOCAB, hidden])), Some(bias));
    Operation::whole(Flop(6 * predicted * hidden * VOCAB), move |compute| {
        let loss = ops::cross_entropy(rows.clone(), &decoder, targets.clone(), 0.0, 1.0, compute);
        black_box(loss.backward());
    })
}

fn predictions(hidden: usize) -> Operation {
    let (rows, targets) = (constant(95, [PREDICTED, hidden]), ids(PREDICTED, VOCAB));
    let decoder = Decoder::new(constant(96, [VOCAB, hidden]), Some(constant(97, [VOCAB])));
    Operation::whole(Flop(2 * PREDICTED * hidden * VOCAB), move |compute| {
        black_box(ops::predictions(rows.clone(), &decoder, targets.clone(), 0.0, compute));
    })
}

/// One parameter of the feed-forward's size: p, m and v are read and written, g is read.
fn adamw(hidden: usize) -> Operation {
    let options = AdamW {
        learning_rate: 1e-5,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.01,
        step: 10,
        factor: 0.5,
    };
    let len = 4 * hidden * hidden;
    let gradient = constant::<1>(3, [len]);
    let mut state = Some((constant(1, [len]), constant(2, [len]), gradient.clone().abs()));
    Operation::whole(Floats(7 * len), move |compute| {
        state = state.take().map(|(p, m, v)| ops::adamw(p, m, v, gradient.clone(), options, compute));
    })
}

fn sum_of_squares(hidden: usize) -> Operation {
    let len = 4 * hidden * hidden;
    let gradient = constant(3, [len]);
    Operation::whole(Floats(len), move |compute| {
        black_box(ops::sum_of_squares(vec![gradient.clone()], Vec::new(), compute));
    })
}
