//! What this processor has for the operations of this backend, in words.

use super::simd::{Vectors, vectors};

/// The widest vectors that operations are compiled for and the processor has; none of those that differ between
/// processors of its kind.
pub fn vector_instructions() -> Option<&'static str> {
    match vectors() {
        Vectors::Avx512 => Some("AVX-512"),
        Vectors::Avx2 => Some("AVX2"),
        Vectors::Least => None,
    }
}

/// The instructions that products in bfloat16 take; none where they are no faster than in float32.
pub fn bfloat16_instructions() -> Option<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        use super::bfloat16::{Instructions, instructions};
        instructions().map(|instructions| match instructions {
            Instructions::Tiles => "AMX",
            Instructions::Vectors => "AVX-512",
        })
    }
    #[cfg(not(target_arch = "x86_64"))]
    None
}
