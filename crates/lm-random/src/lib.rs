//! Counter-based random numbers: every random choice of a run is a function of (seed, purpose, epoch, index).
//!
//! There is no generator to share, seed or save. Asking for the stream of example 7 of epoch 3 costs the same whether
//! the run is at step 10 or 1,000,000, on any thread and after any restart. The block function is Philox4x32-10
//! (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).

/// What the numbers are for. Streams of different purposes never share numbers, so adding a draw in one place changes
/// nothing in another. The numeric values are part of what makes a run repeatable: append, never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Purpose {
    /// Order of the training examples; index is the position in the epoch.
    Shuffle = 1,
    /// Masked-language-model corruption of a training example; index is the example.
    MaskTrain = 2,
    /// The same for evaluation, where the epoch is always 0.
    MaskEval = 3,
    /// Spans and factorisation order of a permutation-language-model training example.
    PermuteTrain = 4,
    /// The same for evaluation, where the epoch is always 0.
    PermuteEval = 5,
    /// Dropout masks; index is the micro-batch, epoch the call site within the forward pass.
    Dropout = 6,
    /// Initial weights; index is a hash of the parameter's name.
    Init = 7,
    /// Text generation; index is the prompt, epoch the evaluation it belongs to.
    Sample = 8,
    /// NEFTune noise on the embeddings; index is the micro-batch.
    Neftune = 9,
    /// Grouping by length: the order before batches are formed.
    GroupByLength = 10,
    /// Order of the examples of a block of a stream; index is the first of them.
    ShuffleBuffer = 11,
    /// Order of the files of a stream; index is the place in it.
    ShuffleFiles = 12,
    /// Order of the examples of one of several corpora that are mixed; epoch is its round.
    Mixture = 13,
    /// Which corpus an example of a mixed stream is taken from; index is the example.
    Draw = 14,
    /// The generators with which Python goes on from a checkpoint; index is the step, epoch the generator.
    Python = 15,
}

/// The Philox4x32-10 block function: four random words for one counter under one key.
#[inline]
pub fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    const M0: u64 = 0xD251_1F53;
    const M1: u64 = 0xCD9E_8D57;
    let ([mut c0, mut c1, mut c2, mut c3], [mut k0, mut k1]) = (counter, key);
    for _ in 0..10 {
        let p0 = M0 * u64::from(c0);
        let p1 = M1 * u64::from(c2);
        (c0, c1, c2, c3) = ((p1 >> 32) as u32 ^ c1 ^ k0, p1 as u32, (p0 >> 32) as u32 ^ c3 ^ k1, p0 as u32);
        k0 = k0.wrapping_add(0x9E37_79B9);
        k1 = k1.wrapping_add(0xBB67_AE85);
    }
    [c0, c1, c2, c3]
}

/// The Philox key of a seed and a purpose, for kernels that compute their own counters.
pub fn key(seed: u64, purpose: Purpose) -> [u32; 2] {
    let mixed = mix(seed ^ mix(purpose as u64));
    [mixed as u32, (mixed >> 32) as u32]
}

/// The finaliser of SplitMix64: a bijection that spreads every input bit over the whole word.
fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The numbers of one (seed, purpose, epoch, index), in order.
#[derive(Clone, Debug)]
pub struct Stream {
    key: [u32; 2],
    counter: [u32; 4],
    block: [u32; 4],
    used: usize,
}

impl Stream {
    /// Opens the stream; costs one multiplication chain, whatever the arguments. Epochs are taken modulo 2³².
    pub fn new(seed: u64, purpose: Purpose, epoch: u64, index: u64) -> Self {
        let counter = [0, epoch as u32, index as u32, (index >> 32) as u32];
        Self { key: key(seed, purpose), counter, block: [0; 4], used: 4 }
    }

    /// 32 uniform bits.
    #[inline]
    pub fn next_u32(&mut self) -> u32 {
        if self.used == 4 {
            self.block = philox(self.counter, self.key);
            self.counter[0] = self.counter[0].wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }

    /// 64 uniform bits.
    #[inline]
    fn next_u64(&mut self) -> u64 {
        u64::from(self.next_u32()) << 32 | u64::from(self.next_u32())
    }

    /// Uniform in [0, 1), with the 24 bits that an `f32` can hold.
    #[inline]
    pub fn next_f32(&mut self) -> f32 {
        (self.next_u32() >> 8) as f32 / (1u32 << 24) as f32
    }

    /// Uniform in [0, 1), with the 53 bits that an `f64` can hold.
    #[inline]
    pub fn next_f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in `0..n`, without bias (Lemire, 2019); 0 when `n` is 0.
    #[inline]
    pub fn below(&mut self, n: u32) -> u32 {
        let threshold = if n == 0 { return 0 } else { n.wrapping_neg() % n };
        loop {
            let product = u64::from(self.next_u32()) * u64::from(n);
            if product as u32 >= threshold {
                return (product >> 32) as u32;
            }
        }
    }

    /// Standard normal (Box and Muller, 1958).
    pub fn normal(&mut self) -> f32 {
        let radius = (-2.0 * (1.0 - self.next_f64()).ln()).sqrt();
        (radius * (std::f64::consts::TAU * self.next_f64()).cos()) as f32
    }

    /// Fisher–Yates shuffle.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u32 + 1) as usize);
        }
    }
}

/// Where position `index` of `0..n` goes under the pseudo-random permutation of (seed, purpose, epoch).
///
/// A balanced Feistel network of six rounds over the next power of four, walked until the result falls below `n`
/// (Black and Rogaway, 2002): constant expected time and no table, so any position of any epoch is at hand at once.
/// An `index` outside `0..n` is returned unchanged.
pub fn permute(index: u64, n: u64, seed: u64, purpose: Purpose, epoch: u64) -> u64 {
    if index >= n || n < 2 {
        return index;
    }
    let half = (64 - (n - 1).leading_zeros()).div_ceil(2);
    let mask = (1u64 << half) - 1;
    let key = key(seed, purpose);
    let mut x = index;
    loop {
        let (mut left, mut right) = (x >> half, x & mask);
        for round in 0..6 {
            let f = philox([round, epoch as u32, right as u32, u32::MAX], key);
            (left, right) = (right, left ^ (u64::from(f[0]) & mask));
        }
        x = left << half | right;
        if x < n {
            return x;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the authors' implementation (Random123, kat_vectors).
    #[test]
    fn philox_known_answers() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn permute_is_a_bijection_that_depends_on_every_argument() {
        for n in [1u64, 2, 3, 7, 64, 65, 1000] {
            let mut image: Vec<u64> = (0..n).map(|i| permute(i, n, 42, Purpose::Shuffle, 1)).collect();
            image.sort_unstable();
            assert!(image.iter().copied().eq(0..n), "n = {n}");
        }
        let order =
            |seed, purpose, epoch| -> Vec<u64> { (0..100).map(|i| permute(i, 100, seed, purpose, epoch)).collect() };
        let base = order(1, Purpose::Shuffle, 1);
        assert_ne!(base, order(2, Purpose::Shuffle, 1));
        assert_ne!(base, order(1, Purpose::GroupByLength, 1));
        assert_ne!(base, order(1, Purpose::Shuffle, 2));
    }

    #[test]
    fn draws_are_uniform_and_normal() {
        let mut s = Stream::new(7, Purpose::Init, 0, 0);
        let n = 200_000;
        let mut buckets = [0f64; 10];
        let (mut sum, mut squares) = (0f64, 0f64);
        for _ in 0..n {
            buckets[s.below(10) as usize] += 1.0;
            let x = f64::from(s.normal());
            sum += x;
            squares += x * x;
        }
        let expected = n as f64 / 10.0;
        let chi2: f64 = buckets.iter().map(|b| (b - expected).powi(2) / expected).sum();
        assert!(chi2 < 27.9, "chi-square {chi2} over 9 degrees of freedom (p = 0.001)");
        assert!((sum / n as f64).abs() < 0.01 && (squares / n as f64 - 1.0).abs() < 0.02);
        assert_eq!(
            Stream::new(7, Purpose::Init, 0, 0).next_f32().to_bits(),
            Stream::new(7, Purpose::Init, 0, 0).next_f32().to_bits()
        );
    }
}
